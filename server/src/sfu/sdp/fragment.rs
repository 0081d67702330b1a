//! Trickle ICE fragments (RFC 8840 §9), as WHIP patches sessions with them (RFC 9725 §4.3).

use super::Credentials;
use super::candidate::Candidate;
use super::section::check_credentials;

/// Most lines that are read.
const MAX_LINES: usize = 1_024;

/// What a fragment asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    /// Of the sender; equal to the current ones when candidates are added, new ones restart ICE.
    pub(crate) credentials: Option<Credentials>,
    /// Candidates in it. An ICE-lite agent has no use for them: it learns addresses from checks (RFC 8445 §7.3.1.3).
    pub(crate) candidates: usize,
}

impl Fragment {
    /// Reads a fragment.
    ///
    /// # Errors
    /// A sentence saying what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (mut ufrag, mut pwd) = (None, None);
        let mut candidates = 0;
        let mut end = false;
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let line = line.trim_end_matches(['\r', ' ']);
            if index >= MAX_LINES {
                return Err("too many lines".to_owned());
            }
            if line.is_empty() {
                continue;
            }
            let Some((kind, value)) = line.split_once('=').filter(|(kind, _)| kind.len() == 1)
            else {
                return Err(format!("line {number} is not of the form x=value"));
            };
            if kind != "a" {
                continue;
            }
            match value.split_once(':').unwrap_or((value, "")) {
                ("ice-ufrag", value) => ufrag = ufrag.or(Some(value)),
                ("ice-pwd", value) => pwd = pwd.or(Some(value)),
                ("candidate", value) if value.split_ascii_whitespace().count() < 8 => {
                    return Err(format!("line {number} is not a candidate"));
                }
                ("candidate", _) => candidates += 1,
                ("end-of-candidates", _) => end = true,
                _ => {}
            }
        }
        let credentials = ufrag.zip(pwd).map(|(ufrag, pwd)| Credentials {
            ufrag: ufrag.to_owned(),
            pwd: pwd.to_owned(),
        });
        if let Some(credentials) = &credentials {
            check_credentials(credentials).map_err(|what| format!("it has no {what}"))?;
        }
        if credentials.is_none() && candidates == 0 && !end {
            return Err("it has neither credentials nor candidates".to_owned());
        }
        Ok(Self {
            credentials,
            candidates,
        })
    }
}

/// The answer to an ICE restart: our new credentials and our candidates.
pub(crate) fn render(local: &Credentials, candidates: &[Candidate]) -> String {
    let mut lines = vec![
        "a=ice-lite".to_owned(),
        format!("a=ice-ufrag:{}", local.ufrag),
        format!("a=ice-pwd:{}", local.pwd),
    ];
    lines.extend(candidates.iter().map(Candidate::to_string));
    lines.push("a=end-of-candidates".to_owned());
    lines.iter().map(|line| format!("{line}\r\n")).collect()
}
