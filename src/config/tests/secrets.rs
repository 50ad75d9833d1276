//! Where secrets come from, and that none is ever printed.

use super::{PASSWORD, SECRET, fine, parse, with};

#[test]
fn the_credentials_of_a_nextinteract_sam_are_never_printed() {
    for (key, value) in [
        ("password_env", "\"hunter2-hunter2\""),
        ("password", "\"hunter2-hunter2\""),
        ("email_env", "\"hunter2-hunter2\""),
        ("email_env", "[\"hunter2-hunter2\"]"),
    ] {
        let changes = [("crm[0].kind", "\"nextinteract_sam\""), (&*format!("crm[0].nextinteract_sam.{key}"), value)];
        let faults = parse(&with(&changes)).expect_err("this is no place for a credential");
        assert!(!format!("{faults:?}").contains(PASSWORD), "{faults:?}");
        assert!(faults.iter().all(|fault| !fault.to_string().contains(PASSWORD)));
    }
}

#[test]
fn the_api_key_of_a_previsto_is_never_printed() {
    for (key, value) in [
        ("api_key_env", "\"hunter2-hunter2\""),
        ("api_key", "\"hunter2-hunter2\""),
        ("api_key_env", "[\"hunter2-hunter2\"]"),
    ] {
        let changes = [("crm[0].kind", "\"previsto\""), (&*format!("crm[0].previsto.{key}"), value)];
        let faults = parse(&with(&changes)).expect_err("this is no place for a key");
        assert!(!format!("{faults:?}").contains(PASSWORD), "{faults:?}");
        assert!(faults.iter().all(|fault| !fault.to_string().contains(PASSWORD)));
    }
}

#[test]
fn a_secret_may_come_from_a_file_instead_of_a_variable() {
    let settings = fine(&[("identity.secret_file", "\"/run/secret\"")]);
    assert_eq!(settings.identity.secret.unwrap().expose(), SECRET);
    assert_eq!(settings.identity.secret_env, None);
}

#[test]
fn properties_of_librdkafka_take_their_secrets_from_outside() {
    let settings = fine(&[
        ("log.kafka.properties.sasl.password_env", "KAFKA_PASSWORD"),
        ("log.kafka.properties.ssl.key.pem_file", "/run/secret"),
        ("log.kafka.properties.sasl.mechanism", "PLAIN"),
    ]);
    let properties = &settings.log.kafka.properties;
    assert_eq!(properties["sasl.password"], PASSWORD);
    assert_eq!(properties["ssl.key.pem"], SECRET);
    assert_eq!(properties["sasl.mechanism"], "PLAIN");
    assert_eq!(properties.len(), 3);
}

#[test]
fn no_secret_is_ever_printed() {
    let settings = fine(&[("log.kafka.properties.sasl.password_env", "KAFKA_PASSWORD")]);
    let printed = format!("{settings:?}");
    assert!(!printed.contains(SECRET) && !printed.contains(PASSWORD), "{printed}");
    for changes in [
        [("identity.secret_env", "\"hunter2-hunter2\"")],
        [("identity.secret", "\"hunter2-hunter2\"")],
        [("identity.token", "\"hunter2-hunter2\"")],
        [("log.kafka.properties.sasl.password", "hunter2-hunter2")],
        [("log.kafka.properties.sasl.password_env", "hunter2-hunter2")],
        [("crm[0].base_url", "\"https://user:hunter2-hunter2@host/\"")],
        [("crm[0].base_url", "\"hunter2-hunter2\"")],
        [("crm[0].api_token", "\"hunter2-hunter2\"")],
        [("crm[0].priava", "\"hunter2-hunter2\"")],
    ] {
        let faults = parse(&with(&changes)).expect_err("these settings are faulty");
        assert!(!format!("{faults:?}").contains("hunter2"), "{faults:?}");
    }
    let faults = parse("[identity]\nsecret = \"hunter2-hunter2").expect_err("this is not TOML");
    assert_eq!(
        faults[0].to_string(),
        "line 2: column 26 is not TOML: invalid basic string, expected `\"`; see config/reference.toml for how each key is written"
    );
}

#[test]
fn the_ingest_needs_no_token_where_only_this_machine_reaches_it_or_nobody_does() {
    for listen in ["", "127.0.0.1:8700", "[::1]:8700"] {
        let settings = fine(&[("ingest.listen", &format!("{listen:?}"))]);
        assert_eq!(settings.ingest.token, None);
        assert_eq!(settings.ingest.address().is_some(), !listen.is_empty());
    }
    // Off, its token is not looked for.
    fine(&[("ingest.token_env", "\"MISSING_TOKEN\"")]);
    let settings = fine(&[("ingest.listen", "\"127.0.0.1:8700\""), ("ingest.token_file", "\"/run/secret\"")]);
    assert_eq!(settings.ingest.token.as_ref().unwrap().expose(), SECRET);
    assert!(!format!("{settings:?}").contains(SECRET));
}

#[test]
fn operators_may_be_answered_elsewhere_with_a_token() {
    let settings = fine(&[("admin.operator_listen", "\"127.0.0.1:9465\"")]);
    assert_eq!(settings.admin.token, None);
    for listen in ["0.0.0.0:9465", "[::]:9465", "10.0.0.7:9465"] {
        let settings = fine(&[
            ("admin.operator_listen", &format!("{listen:?}")),
            ("admin.token_file", "\"/run/secret\""),
            ("admin.token_on_loopback", "true"),
            ("admin.hosts", "[\"worker-0.contacts.example.com\"]"),
        ]);
        assert_eq!(settings.admin.token.as_ref().unwrap().expose(), SECRET);
        assert!(!format!("{settings:?}").contains(SECRET));
    }
}
