//! The schema of a contact-change event in structured mode: CloudEvents 1.0 as JSON, with the contact within it.
//!
//! It refuses what the reader refuses for its form, attribute by attribute. What it cannot tell is left to the reader: the
//! size and depth of an event, a time in the future, sources that an installation does not know, JSON within `data_base64`,
//! and a sequence that is an integer but written as `12.0`.

use serde_json::{Value, json};

use super::DIALECT;
use crate::contact::schema::{DATE, any_case, base64, json_schema};

/// A contact-change event, as it stands in a record of an input topic or in the body of a request to the HTTP ingest.
pub fn change_event() -> Value {
    json!({
        "$schema": DIALECT,
        "title": "Contact change, version 1",
        "description": "One CloudEvent 1.0 in structured JSON mode. The record's key should be its subject. In binary mode \
            the attributes are headers that begin with ce_ and the value is what stands here under data.",
        "type": "object",
        "required": ["specversion", "id", "source", "type", "subject"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": text("Unique per source: the same id twice is the same event."),
            "source": {
                "description": "The emitting system, a URI reference.",
                "type": "string",
                "pattern": "^(?:[A-Za-z0-9._~:/?#\\[\\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+$",
                "examples": ["https://shop.example.com"],
            },
            "type": {
                "description": "Ends in what happened: created and updated carry the whole contact as this source knows it, \
                    patched a merge patch (RFC 7396) of that, deleted and erased (the person asked to be forgotten) nothing.",
                "type": "string",
                "pattern": format!("^{TYPE_BEGINS}(?:created|updated|patched|deleted|erased){TYPE_ENDS}$"),
                "examples": ["com.example.contact.updated.v1"],
            },
            "subject": text("The contact's id in that source."),
            "time": {
                "description": "When it happened, RFC 3339; at most a day ahead of the reader's clock.",
                "type": ["string", "null"],
                "pattern": moment(),
            },
            "sequence": {
                "description": "Orders the changes of one subject better than time does. Numbers of any length compare as \
                    numbers, other texts byte by byte.",
                "anyOf": [
                    {"type": "null"},
                    {"type": "string", "pattern": printable()},
                    {"type": "integer", "minimum": i64::MIN, "maximum": u64::MAX},
                ],
            },
            "traceparent": {
                "description": "W3C trace context, carried through to the calls and the outcomes. Left out if it is ill-formed.",
            },
            "datacontenttype": {"description": "JSON, which it is taken for if nothing is said."},
            "data": {"description": "The contact."},
            "data_base64": {"description": "The contact as JSON in base64, in place of data."},
        },
        "if": {
            "required": ["type"],
            "properties": {"type": {"pattern": format!("^{TYPE_BEGINS}(?:created|updated|patched){TYPE_ENDS}$")}},
        },
        "then": {
            "properties": {"datacontenttype": {"type": ["string", "null"], "pattern": json_media_type()}},
            "anyOf": [
                {
                    "required": ["data"],
                    "properties": {"data": {"$ref": "#/$defs/Contact"}, "data_base64": {"type": "null"}},
                },
                {
                    "required": ["data_base64"],
                    "properties": {
                        "data": {"type": "null"},
                        "data_base64": {"type": "string", "minLength": 1, "pattern": format!("^{}$", base64())},
                    },
                },
            ],
        },
        "$defs": {"Contact": json_schema()},
    })
}

/// Any reverse-DNS prefix.
const TYPE_BEGINS: &str = "(?:[A-Za-z0-9_-]+\\.)*contact\\.";
const TYPE_ENDS: &str = "(?:\\.v1)?";

fn text(description: &str) -> Value {
    json!({"description": description, "type": "string", "pattern": printable()})
}

/// A text that is not empty and holds no control characters.
fn printable() -> &'static str {
    "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"
}

/// RFC 3339, section 5.6, on a day that exists. The end of a minute may be a leap second.
fn moment() -> String {
    format!(
        "^{DATE}[Tt](?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\\.[0-9]+)?\
         (?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])$"
    )
}

/// `application/json`, or any type that ends in `+json`, in UTF-8.
fn json_media_type() -> String {
    let (json, charset) = (any_case("json"), any_case("charset"));
    let (utf_8, ascii) = (any_case("utf-8"), any_case("us-ascii"));
    format!(
        "^(?![\\s\\S]*[\\u0000-\\u001f\\u007f-\\u009f])[^;/]*/(?:[^;]*\\+)?{json}\\s*\
         (?:;(?!\\s*{charset}\\s*=)[^;]*)*(?:;\\s*{charset}\\s*=\\s*\"*(?:{utf_8}|{ascii})\"*\\s*(?:;.*)?)?$"
    )
}
