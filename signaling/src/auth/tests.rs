//! Tokens of every kind against every kind of key.

use super::*;
use proptest::prelude::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----";
const PUBLIC_JWK: &str =
    r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

fn keys() -> Keys {
    Keys {
        secret: Some(SECRET.to_owned()),
        public_key: Some(PUBLIC_JWK.to_owned()),
        leeway_s: 5,
        ..Keys::default()
    }
}

fn verifier(keys: &Keys) -> Verifier {
    Verifier::new(keys).unwrap().unwrap()
}

fn claims() -> Claims {
    Claims {
        scope: vec![Scope::Publish],
        exp: Some(1_000),
        nbf: Some(100),
        ..Claims::default()
    }
}

#[test]
fn both_algorithms_round_trip() {
    let verifier = verifier(&keys());
    for signer in [
        Signer::secret(SECRET).unwrap(),
        Signer::private_key(PRIVATE).unwrap(),
    ] {
        let token = signer.sign(&claims()).unwrap();
        assert_eq!(verifier.verify(&token, 500), Ok(claims()));
    }
}

#[test]
fn times_have_leeway() {
    let verifier = verifier(&keys());
    let token = Signer::secret(SECRET).unwrap().sign(&claims()).unwrap();
    let at = |now_s| verifier.verify(&token, now_s).map(drop);
    assert_eq!(at(94), Err(TokenError::NotYet));
    assert_eq!(at(95), Ok(()));
    assert_eq!(at(1_004), Ok(()));
    assert_eq!(at(1_005), Err(TokenError::Expired));
    assert_eq!(at(u64::MAX), Err(TokenError::Expired));
}

#[test]
fn issuer_and_audience_are_checked_when_configured() {
    let strict = verifier(&Keys {
        issuer: Some("us".to_owned()),
        audience: Some("anchornet".to_owned()),
        ..keys()
    });
    let signer = Signer::secret(SECRET).unwrap();
    let check = |iss: Option<&str>, aud: Option<&str>| {
        let claims = Claims {
            iss: iss.map(str::to_owned),
            aud: aud.map(str::to_owned),
            ..claims()
        };
        strict.verify(&signer.sign(&claims).unwrap(), 500).map(drop)
    };
    assert_eq!(check(Some("us"), Some("anchornet")), Ok(()));
    for (iss, aud) in [
        (None, Some("anchornet")),
        (Some("us"), None),
        (Some("x"), Some("anchornet")),
        (Some("us"), Some("x")),
    ] {
        assert_eq!(
            check(iss, aud),
            Err(TokenError::OtherService),
            "{iss:?} {aud:?}"
        );
    }
    let lax = verifier(&keys());
    let foreign = Claims {
        aud: Some("x".to_owned()),
        ..claims()
    };
    assert!(lax.verify(&signer.sign(&foreign).unwrap(), 500).is_ok());
}

#[test]
fn the_algorithm_belongs_to_the_key() {
    // The classic confusion: the text of a public key used as an HMAC secret.
    let only_public = verifier(&Keys {
        secret: None,
        ..keys()
    });
    let forged = Signer::secret(PUBLIC_JWK).unwrap().sign(&claims()).unwrap();
    assert_eq!(only_public.verify(&forged, 500), Err(TokenError::Invalid));
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzY29wZSI6ImFkbWluIn0.";
    assert_eq!(
        verifier(&keys()).verify(unsigned, 500),
        Err(TokenError::Invalid)
    );
}

#[test]
fn bad_keys_are_refused_with_a_reason() {
    let short = Keys {
        secret: Some("short".to_owned()),
        ..Keys::default()
    };
    assert_eq!(Verifier::new(&short).unwrap_err(), KeyError::ShortSecret(5));
    for text in [
        "",
        "{",
        r#"{"kty":"oct","k":"AAAA"}"#,
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
    ] {
        let keys = Keys {
            public_key: Some(text.to_owned()),
            ..Keys::default()
        };
        assert!(
            matches!(Verifier::new(&keys), Err(KeyError::BadKey(_))),
            "{text}"
        );
    }
    assert!(Verifier::new(&Keys::default()).unwrap().is_none());
}

proptest! {
    #[test]
    fn a_changed_token_is_not_accepted(at in 0usize..400, to in "[A-Za-z0-9_.-]") {
        let verifier = verifier(&keys());
        let token = Signer::secret(SECRET).unwrap().sign(&claims()).unwrap();
        let at = at % token.len();
        let changed = format!("{}{to}{}", &token[..at], &token[at + 1..]);
        // The last character of base64url carries bits that do not count; the decoder refuses non-canonical ones.
        prop_assume!(changed != token);
        prop_assert!(verifier.verify(&changed, 500).is_err());
    }

    #[test]
    fn verifying_is_total(token in ".{0,200}") {
        prop_assert!(verifier(&keys()).verify(&token, 500).is_err());
    }
}
