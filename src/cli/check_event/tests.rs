use serde_json::json;

use super::*;

const EVENT: &str = r#"{"specversion":"1.0","id":"e-1","source":"/shop","type":"contact.updated","subject":"42","data":{"notes":"Ann"}}"#;

fn arguments(binary: bool, headers: &[(&str, &str)], strict: bool, json: bool) -> Arguments {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Arguments { file: PathBuf::new(), binary, headers, strict, json }
}

fn checked(input: &str, arguments: Arguments) -> (Exit, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), input).unwrap();
    let arguments = Arguments { file: file.path().to_owned(), ..arguments };
    let mut output = Vec::new();
    let exit = run(&arguments, &mut output).unwrap();
    (exit, String::from_utf8(output).unwrap())
}

fn plain() -> Arguments {
    arguments(false, &[], false, false)
}

#[test]
fn each_line_that_is_an_event_is_told_with_code_place_and_remedy() {
    let birth_date = EVENT.replace(r#"{"notes":"Ann"}"#, r#"{"birthDate":"Ann"}"#);
    let no_type = EVENT.replace(r#""type":"contact.updated","#, "");
    let input = format!("{EVENT}\n\n{birth_date}\n{no_type}\r\n[\"Ann\"\n");
    let (exit, output) = checked(&input, plain());
    assert_eq!(exit, Exit::CheckFailed);
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(
        lines,
        [
            "ok    line 1",
            "FAIL  line 3: bad_value at \"/birthDate\": give a day that exists, as YYYY-MM-DD, or null",
            "FAIL  line 4: missing_attribute at \"/headers/ce_type\": give type; it is required",
            "FAIL  line 5: not_json: give well-formed JSON, and the contact under data (data_base64, or the value in binary mode)",
            "4 events, 3 at fault",
        ]
    );
    assert!(!output.contains("Ann"));
    assert_eq!(checked(EVENT, plain()).0, Exit::Done);
}

#[test]
fn a_program_is_told_the_same_as_json() {
    let faulty = EVENT.replace(r#""data":{"notes":"Ann"}"#, r#""data":{"emails":[{"value":7}]}"#);
    let (exit, output) = checked(&format!("{EVENT}\n{faulty}\n"), arguments(false, &[], false, true));
    assert_eq!(exit, Exit::CheckFailed);
    let lines: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let fault = json!({
        "line": 2, "id": "e-1", "ok": false, "ignored": 0, "code": "wrong_type", "pointer": "/emails/0/value",
        "remedy": "give a text, or null",
    });
    assert_eq!(lines, [json!({"line": 1, "id": "e-1", "ok": true, "ignored": 0}), fault]);
}

#[test]
fn one_event_may_take_several_lines() {
    let pretty = serde_json::to_string_pretty(&serde_json::from_str::<Value>(EVENT).unwrap()).unwrap();
    let (exit, output) = checked(&format!("\n{pretty}\n"), plain());
    assert_eq!((exit, &*output), (Exit::Done, "ok    line 2\n1 events, 0 at fault\n"));
    // Cut off, it is no event, and neither is any of its lines.
    let (exit, _) = checked(pretty.trim_end_matches('}'), plain());
    assert_eq!(exit, Exit::CheckFailed);
}

#[test]
fn no_event_at_all_is_no_success() {
    assert_eq!(checked(" \n\n", plain()), (Exit::CheckFailed, "0 events, 0 at fault\n".to_owned()));
}

#[test]
fn what_is_not_known_is_told_and_with_strict_a_fault() {
    let input = EVENT.replace("notes", "shoeSize");
    let (exit, output) = checked(&input, plain());
    assert_eq!(exit, Exit::Done);
    assert!(output.starts_with("ok    line 1: 1 attributes or labels are not known and ignored\n"), "{output}");
    let (exit, output) = checked(&input, arguments(false, &[], true, false));
    assert_eq!(exit, Exit::CheckFailed);
    assert!(output.starts_with("FAIL  line 1: 1 attributes"), "{output}");
    let (_, output) = checked(&input, arguments(false, &[], true, true));
    let verdict: Value = serde_json::from_str(&output).unwrap();
    assert_eq!((&verdict["ok"], &verdict["ignored"], &verdict["code"]), (&json!(false), &json!(1), &Value::Null));
}

#[test]
fn a_binary_event_has_its_attributes_in_headers() {
    let headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", "e-1"),
        ("ce_source", "/shop"),
        ("ce_type", "contact.updated"),
        ("ce_subject", "42"),
    ];
    let binary = |headers: &[(&str, &str)]| arguments(true, headers, false, false);
    assert_eq!(checked("{\n\"notes\": \"n\"}\n", binary(&headers)).0, Exit::Done);
    let (exit, output) = checked("{}", binary(&headers[..4]));
    assert_eq!(exit, Exit::CheckFailed);
    assert!(output.contains("no_subject at \"/headers/ce_subject\""), "{output}");
    let deleted =
        headers.map(|(name, value)| (name, value.strip_suffix("updated").map_or(value, |_| "contact.deleted")));
    assert_eq!(checked("", binary(&deleted)).0, Exit::Done, "a delete has no data");
    assert_eq!(header("ce_id=a=b"), Ok(("ce_id".to_owned(), "a=b".to_owned())));
    assert!(header("ce_id").is_err());
}

#[test]
fn an_event_counts_with_its_key() {
    let sized = |bytes: usize| {
        let content_type = "content-type".len() + "application/cloudevents+json; charset=UTF-8".len();
        let rest = EVENT.len() - "Ann".len() + content_type + "42".len();
        EVENT.replace("Ann", &"n".repeat(bytes - rest))
    };
    assert_eq!(checked(&sized(256 * 1024), plain()).0, Exit::Done);
    let (exit, output) = checked(&sized(256 * 1024 + 1), plain());
    assert_eq!(exit, Exit::CheckFailed);
    assert!(output.contains("too_large: send less"), "{output}");
}

#[test]
fn an_input_may_have_so_many_bytes_and_no_more() {
    assert_eq!(within(&b"12345"[..], 5).unwrap(), "12345");
    let error = within(&b"123456"[..], 5).unwrap_err();
    assert_eq!(error.exit(), Exit::Usage);
}
