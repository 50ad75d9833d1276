//! The table as a JSON Schema (draft 2020-12), for tools of those who write and read contacts.
//!
//! The schema takes and refuses what the check takes and refuses: each form that is more than a type has a pattern here for
//! the function in [`values`] that it stands for, and properties hold one to the other. Two things a pattern
//! does not reach: what lies within an https URL, and base64 that is percent-encoded in a data URL.
//!
//! Patterns are those of ECMA-262 without flags, as JSON Schema has it: letters of either case are spelled out.

use serde_json::{Map, Value, json};

use super::{Attribute, CONTACT, Form, PHOTO_BYTES_MAX, values};

/// What the form of a place does not say by itself.
const MEANINGS: &[(&str, &str)] = &[
    ("/kind", "A person, unless it is said to be an organization."),
    ("/name/formatted", "The whole name as it is shown."),
    ("/phoneNumbers/value", "In any writing; E.164 is best."),
    ("/addresses/streetAddress", "Lines are parted by a line feed."),
    ("/organization", "Where the person works; of an organization, itself."),
    ("/organization/title", "The job title."),
    ("/identifiers", "Namespace to value: ids that several sources share, such as customer_no or vat."),
    ("/owner", "Who looks after the contact."),
    ("/photos/value", "A data URL, or an https URL, which is kept and not fetched."),
    ("/relations/subject", "The other contact's id in that source."),
    ("/attributes", "Free names; they reach fields of a CRM by its settings."),
];

/// A day that exists, as `YYYY-MM-DD`: not anchored, since a moment begins with one.
pub(crate) const DATE: &str = "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])\
|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))\
|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)";

/// Base64 as far as it comes in fours, not anchored. What may follow differs in the padding.
const FOURS: &str = "(?:[A-Za-z0-9+/]{4})*";

/// Base64 with its padding, not anchored.
pub(crate) fn base64() -> String {
    format!("{FOURS}(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{{2}}[AEIMQUYcgkosw048]=)?")
}

/// A pattern of an ASCII text in any mixture of capitals and small letters.
pub(crate) fn any_case(text: &str) -> String {
    let letter = |letter: char| match letter.is_ascii_alphabetic() {
        true => format!("[{}{}]", letter.to_ascii_uppercase(), letter.to_ascii_lowercase()),
        false => letter.to_string(),
    };
    text.chars().map(letter).collect()
}

/// The schema of a contact document, without `$schema`: part of the schemas of events and records.
pub(crate) fn json_schema() -> Value {
    let mut schema = object(CONTACT, "");
    schema["title"] = json!("Contact");
    schema["description"] = json!(
        "Every attribute may be left out (nothing is said) or null (known to be empty). Attributes that are not listed are \
         ignored."
    );
    schema["type"] = json!("object");
    schema
}

fn object(attributes: &[Attribute], place: &str) -> Value {
    let members = attributes.iter().map(|attribute| {
        let pointer = format!("{place}/{}", attribute.name);
        let mut schema = form(&attribute.form, &pointer);
        if let Some((_, meaning)) = MEANINGS.iter().find(|(known, _)| *known == pointer) {
            schema["description"] = json!(meaning);
        } else if says_more_than_its_type(&attribute.form) {
            schema["description"] = json!(sentence(&attribute.form.in_words()));
        }
        (attribute.name.to_owned(), schema)
    });
    json!({"type": ["object", "null"], "properties": members.collect::<Map<String, Value>>()})
}

fn says_more_than_its_type(form: &Form) -> bool {
    matches!(form, Form::Label(_) | Form::Date | Form::Country | Form::Language)
}

fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).chain(['.']).collect()
}

fn form(form: &Form, pointer: &str) -> Value {
    let text = |pattern: String| json!({"type": ["string", "null"], "pattern": format!("^(?:{pattern})$")});
    match form {
        Form::Text => json!({"type": ["string", "null"]}),
        Form::Boolean => json!({"type": ["boolean", "null"]}),
        Form::Degrees(bound) => json!({"type": ["number", "null"], "minimum": -bound, "maximum": bound}),
        Form::Choice(choices) => {
            let choices = choices.iter().map(|choice| json!(choice)).chain([Value::Null]);
            json!({"enum": choices.collect::<Vec<_>>()})
        }
        Form::Label(labels) => json!({"type": ["string", "null"], "examples": labels}),
        Form::Date => text(DATE.to_owned()),
        Form::Country => text(values::COUNTRIES.iter().map(countries).collect::<Vec<_>>().join("|")),
        Form::Language => text(language()),
        Form::Photo => photo(),
        Form::Object(attributes) => object(attributes, pointer),
        Form::Array(attributes) => json!({"type": ["array", "null"], "items": object(attributes, pointer)}),
        Form::TextMap => {
            json!({"type": ["object", "null"], "additionalProperties": {"type": ["string", "null"]}})
        }
        Form::ScalarMap => json!({
            "type": ["object", "null"],
            "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
        }),
    }
}

fn countries((first, seconds): &(u8, &str)) -> String {
    format!("{}[{seconds}]", char::from(*first))
}

/// RFC 5646, section 2.1: `langtag`, `privateuse`, and those of `grandfathered` that are none of the former.
fn language() -> String {
    let tag = "(?:[A-Za-z]{2,3}(?:-[A-Za-z]{3}){0,3}|[A-Za-z]{4,8})(?:-[A-Za-z]{4})?(?:-(?:[A-Za-z]{2}|[0-9]{3}))?\
               (?:-(?:[A-Za-z][A-Za-z0-9]{4,7}|[0-9][A-Za-z0-9]{3,7}))*\
               (?:-[A-WYZa-wyz0-9](?:-[A-Za-z0-9]{2,8})+)*(?:-[Xx](?:-[A-Za-z0-9]{1,8})+)?";
    let irregular = [
        "en-GB-oed",
        "i-ami",
        "i-bnn",
        "i-default",
        "i-enochian",
        "i-hak",
        "i-klingon",
        "i-lux",
        "i-mingo",
        "i-navajo",
        "i-pwn",
        "i-tao",
        "i-tay",
        "i-tsu",
        "sgn-BE-FR",
        "sgn-BE-NL",
        "sgn-CH-DE",
    ];
    let irregular: Vec<String> = irregular.into_iter().map(any_case).collect();
    format!("{tag}|[Xx](?:-[A-Za-z0-9]{{1,8}})+|{}", irregular.join("|"))
}

fn photo() -> Value {
    let (https, data, marked) = (any_case("https://"), any_case("data:"), any_case(";base64"));
    let open = "[A-Za-z0-9+/][AQgw]={0,2}|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=?";
    let data_url = |pattern: String| json!({"type": "string", "maxLength": PHOTO_BYTES_MAX, "pattern": pattern});
    json!({"anyOf": [
        {"type": "null"},
        {"type": "string", "pattern": format!("^{https}[/\\\\\\t\\n\\r]*[^/\\\\?#\\s]")},
        data_url(format!("^{data}(?![^,]*{marked},)[^,]*,")),
        data_url(format!("^{data}[^,]*{marked},{FOURS}(?:{open})?$")),
        data_url(format!("^{data}[^,]*{marked},(?=[^%]*%)(?:[A-Za-z0-9+/=]|%[0-9A-Fa-f]{{2}})*$")),
    ]})
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use jsonschema::Validator;
    use proptest::prelude::*;

    use super::{
        super::{check, named, samples},
        *,
    };

    static VALIDATOR: LazyLock<Validator> =
        LazyLock::new(|| jsonschema::draft202012::new(&json_schema()).expect("a schema"));

    #[track_caller]
    fn agree(contact: &Value) {
        assert_eq!(VALIDATOR.is_valid(contact), check(contact.clone()).is_ok(), "{contact}");
    }

    #[test]
    fn each_meaning_is_of_a_place_that_there_is() {
        for (pointer, _) in MEANINGS {
            assert!(named(pointer).is_some(), "{pointer}");
        }
    }

    #[test]
    fn texts_of_a_form_are_taken_and_refused_alike() {
        for date in [
            "1980-02-29",
            "1981-02-29",
            "2000-02-29",
            "1900-02-29",
            "0000-02-29",
            "0400-02-29",
            "1980-04-31",
            "1980-12-31",
            "1980-00-10",
            "1980-13-01",
            "1980-1-1",
            "1980-01-32",
            "1980-01-01T00:00:00Z",
            "19800101",
            "",
            "١٩٨٠-01-01",
            "1980-01-01\n",
            " 1980-01-01",
        ] {
            agree(&json!({"birthDate": date}));
        }
        let letters = || 'A'..='Z';
        for country in letters().flat_map(|first| letters().map(move |second| format!("{first}{second}"))) {
            agree(&json!({"addresses": [{"country": country}]}));
        }
        for country in ["", "C", "ch", "CHE", "CH ", "Switzerland"] {
            agree(&json!({"addresses": [{"country": country}]}));
        }
        for language in [
            "de",
            "de-CH",
            "zh-Hant",
            "zh-cmn-Hans-CN",
            "sl-rozaj-biske",
            "de-1996",
            "de-CH-1901",
            "en-a-bbb-x-a-ccc",
            "x-whatever",
            "X-a-b",
            "i-klingon",
            "I-Klingon",
            "art-lojban",
            "EN-gb-OED",
            "sgn-be-fr",
            "zh-min-nan",
            "de_CH",
            "",
            "d",
            "de-",
            "-de",
            "de--CH",
            "x",
            "x-",
            "de-x",
            "de-a",
            "de-a-x-b",
            "abcdefghi",
            "de-419-DE",
            "de-f",
            "1de",
            "i-none",
            "Swiss German",
            "de-CH-abcdefghi",
            "zh-aaa-bbb-ccc-ddd",
            "aaaa-bbb",
            "de\n",
        ] {
            agree(&json!({"preferredLanguage": language}));
        }
        for photo in [
            "https://photos.example.com/1",
            "HTTPS://x",
            "https:///x",
            "https://",
            "https:",
            "https:x",
            "https://?",
            "https:// x",
            "http://x",
            "data:,",
            "data:image/png,%%%",
            "data:image/png;base64",
            "data:image/png;base64,",
            "data:;base64,AAAA",
            "data:;BASE64,AA",
            "data:;base64,AA=",
            "data:;base64,AA==",
            "data:;base64,AAA",
            "data:;base64,AAA=",
            "data:;base64,AB",
            "data:;base64,A",
            "data:;base64,=A",
            "data:;base64,AAAA=",
            "data:;base64,AA%3D%3D",
            "data:;base64,AA%3",
            "data:;base64,AA AA",
            "data:;base64;x=y,?",
            "DATA:,x",
            "data:",
            "ann.png",
            "",
        ] {
            agree(&json!({"photos": [{"value": photo}]}));
        }
        for bytes in [PHOTO_BYTES_MAX, PHOTO_BYTES_MAX + 1] {
            let head = "data:image/png;base64,";
            let sixes = "A".repeat((bytes - head.len()) / 4 * 4);
            agree(&json!({"photos": [{"value": format!("{head}{sixes}")}]}));
            let head = "data:image/png,";
            let plain = "A".repeat(bytes - head.len());
            agree(&json!({"photos": [{"value": format!("{head}{plain}")}]}));
        }
        for degrees in [json!(-180), json!(180.0), json!(180.000_1), json!(-181), json!(90.5), json!(1e300)] {
            agree(&json!({"addresses": [{"geo": {"longitude": degrees, "latitude": degrees}}]}));
        }
    }

    /// Puts `value` at the `number`th place of `within`, counted depth first, whatever stood there.
    fn put(within: &mut Value, number: &mut usize, value: &Value) {
        if *number == 0 {
            *within = value.clone();
            *number = usize::MAX;
            return;
        }
        *number -= 1;
        let inner: Vec<&mut Value> = match within {
            Value::Object(members) => members.values_mut().collect(),
            Value::Array(items) => items.iter_mut().collect(),
            _ => Vec::new(),
        };
        for inner in inner {
            if *number == usize::MAX {
                return;
            }
            put(inner, number, value);
        }
    }

    fn anything() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (-200..200_i64).prop_map(|number| json!(number)),
            (-200.0..200.0_f64).prop_map(|number| json!(number)),
            "[a-zA-Z0-9:/,;+-]{0,8}".prop_map(Value::String),
            "[0-9]{4}-[0-3][0-9]-[0-3][0-9]".prop_map(Value::String),
            "[A-Za-z]{1,4}(-[A-Za-z0-9]{1,5}){0,4}".prop_map(Value::String),
            "data:(image/png)?(;base64)?,[A-Za-z0-9+/=]{0,9}".prop_map(Value::String),
            Just(json!([])),
            Just(json!({})),
            Just(json!([null, {}])),
            Just(json!({"value": 1, "type": []})),
        ]
    }

    proptest! {
        #[test]
        fn what_sources_may_write_is_taken(contact in samples::contact()) {
            agree(&contact);
        }

        #[test]
        fn what_is_wrong_anywhere_is_refused_where_the_check_refuses_it(
            mut contact in samples::contact(),
            places in proptest::collection::vec((0..40_usize, anything()), 1..3),
        ) {
            for (mut place, value) in places {
                put(&mut contact, &mut place, &value);
            }
            agree(&contact);
        }
    }
}
