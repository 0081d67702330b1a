//! How much CPU time this process has used.

/// The kernel counts in hundredths of a second towards programs, whatever its own tick is (`man 5 proc`, USER_HZ).
const TICK_MS: u64 = 10;

/// User and system time in milliseconds; `None` where there is no `/proc`.
pub(super) fn used_ms() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/self/stat").ok()?)
}

/// The name of the process may hold anything, so fields are counted behind its closing bracket.
fn parse(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some((user + system) * TICK_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_confuse() {
        let stat = "17 (a) b) S 1 17 17 0 -1 4194560 900 0 0 0 12 3 0 0 20 0 1 0 55";
        assert_eq!(parse(stat), Some(150));
    }

    #[test]
    fn this_process_has_a_number() {
        assert!(used_ms().is_some());
        assert_eq!(parse("nonsense"), None);
    }
}
