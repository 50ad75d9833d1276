//! The photo of a contact: which of a document's photos CRM.COM takes, and the form of parts that carries it.
//!
//! A photo is a file of its own, and CRM.COM tells of it no more than the name under which it was sent. So the name says
//! what is in the file: whoever reads it back knows without the file whether it is still the one that was sent.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use http::{
    HeaderValue, Method,
    header::{ACCEPT, CONTENT_TYPE},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    contact::schema,
    crm::{Request, RequestKind},
    privacy::hex,
};

/// As a contact is asked for.
pub(super) const VIEW: &str = "profile_photo/view";
pub(super) const ADD: &str = "/contact_information/profile_photo/add";
pub(super) const REMOVE: &str = "/contact_information/profile_photo/remove";

const NOT_A_FILE: &str = "only photos that are data URLs are sent";
const NOT_A_PICTURE: &str = "not a jpeg, png or gif";
const TOO_LARGE: &str = "larger than configured";

/// A kind of picture that CRM.COM takes: its media type, how its files begin, and how their names end.
struct Kind {
    media_type: &'static str,
    begins: &'static [u8],
    ending: &'static str,
}

const KINDS: [Kind; 3] = [
    Kind { media_type: "image/jpeg", begins: b"\xff\xd8", ending: "jpg" },
    Kind { media_type: "image/png", begins: b"\x89PNG", ending: "png" },
    Kind { media_type: "image/gif", begins: b"GIF8", ending: "gif" },
];

/// A file that CRM.COM takes as a photo.
pub(super) struct Photo {
    kind: &'static Kind,
    content: Vec<u8>,
}

impl fmt::Debug for Photo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "photo of {} bytes", self.content.len())
    }
}

impl Photo {
    /// The photo that a URL of a document holds.
    ///
    /// # Errors
    /// Why it is not sent.
    pub(super) fn of_url(url: &str, bytes_max: usize) -> Result<Self, &'static str> {
        let (media_type, content) = schema::data_url(url).ok_or(NOT_A_FILE)?;
        let kind = KINDS.iter().find(|kind| kind.media_type == media_type && content.starts_with(kind.begins));
        let kind = kind.ok_or(NOT_A_PICTURE)?;
        if content.len() > bytes_max { Err(TOO_LARGE) } else { Ok(Self { kind, content }) }
    }

    /// As a projection has it.
    pub(super) fn value(&self) -> Value {
        json!({ "type": self.kind.media_type, "content": STANDARD.encode(&self.content) })
    }

    /// Takes apart what [`Photo::value`] put together.
    pub(super) fn of_value(value: &Value) -> Option<Self> {
        let media_type = value.get("type")?.as_str()?;
        let kind = KINDS.iter().find(|kind| kind.media_type == media_type)?;
        Some(Self { kind, content: STANDARD.decode(value.get("content")?.as_str()?).ok()? })
    }

    pub(super) fn media_type(&self) -> &'static str {
        self.kind.media_type
    }

    fn digest(&self) -> String {
        hex(&Sha256::digest(&self.content)[..16])
    }

    /// The name of its file.
    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.digest(), self.kind.ending)
    }

    /// Whether CRM.COM, by what it shows of a photo, has this one. It may put something of its own before the name.
    pub(super) fn is_shown(&self, facts: &Value) -> bool {
        facts.get("file_name").and_then(Value::as_str).is_some_and(|name| name.ends_with(&self.name()))
    }

    /// Makes it the photo of the contact of this id.
    pub(super) fn add(&self, id: &str) -> Request {
        // What is between two parts must be in none of them: no file holds its own digest.
        let boundary = format!("contact-replicator-{}", self.digest());
        let mut body = BytesMut::with_capacity(self.content.len() + 512);
        body.put_slice(
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"contact_information_identifier\"\r\n\r\nid={id}\r\n\
                 --{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{}\"\r\n\
                 Content-Type: {}\r\n\r\n",
                self.name(),
                self.kind.media_type
            )
            .as_bytes(),
        );
        body.put_slice(&self.content);
        body.put_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        let content_type = HeaderValue::try_from(format!("multipart/form-data; boundary={boundary}"));
        Request {
            method: Method::POST,
            path: ADD.to_owned(),
            headers: vec![
                (ACCEPT, HeaderValue::from_static("application/json")),
                (CONTENT_TYPE, content_type.expect("hexadecimal digits are visible")),
            ],
            body: Bytes::from(body),
            kind: RequestKind::Set,
        }
    }
}

/// Whether there are pictures of this media type.
pub(super) fn is_known(media_type: &str) -> bool {
    KINDS.iter().any(|kind| kind.media_type == media_type)
}

/// Whether there is a photo, by what CRM.COM shows of it.
pub(super) fn is_there(facts: &Value) -> bool {
    facts.as_object().is_some_and(|facts| facts.values().any(|fact| !fact.is_null()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

    fn url(media_type: &str, content: &[u8]) -> String {
        format!("data:{media_type};base64,{}", STANDARD.encode(content))
    }

    #[test]
    fn only_a_picture_that_is_what_it_says_and_not_too_large_is_taken() {
        for (taken, expected) in [
            (url("image/png", PNG), Ok(8)),
            (url("IMAGE/PNG;name=a", PNG), Ok(8)),
            (url("image/jpeg", b"\xff\xd8x"), Ok(3)),
            ("data:image/gif,GIF89a%00".to_owned(), Ok(7)),
            (url("image/png", &[PNG, b"x"].concat()), Err(TOO_LARGE)),
            (url("image/jpeg", PNG), Err(NOT_A_PICTURE)),
            (url("image/svg+xml", b"<svg/>"), Err(NOT_A_PICTURE)),
            ("data:,".to_owned(), Err(NOT_A_PICTURE)),
            ("https://photos.example.com/1.png".to_owned(), Err(NOT_A_FILE)),
        ] {
            let length = Photo::of_url(&taken, PNG.len()).map(|photo| photo.content.len());
            assert_eq!(length, expected, "{taken}");
        }
    }

    #[test]
    fn a_photo_is_known_by_the_name_under_which_it_was_sent() {
        let photo = Photo::of_url(&url("image/png", PNG), 100).unwrap();
        assert_eq!(photo.name(), "4c4b6a3be1314ab86138bef4314dde02.png");
        let again = Photo::of_value(&photo.value()).unwrap();
        let shown = |name: &str| json!({ "file_name": name, "file_mime_type": "image/png" });
        assert!(again.is_shown(&shown(&photo.name())));
        assert!(again.is_shown(&shown(&format!("217F_key_{}", photo.name()))));
        let other = Photo::of_url(&url("image/png", b"\x89PNG"), 100).unwrap();
        assert!(!other.is_shown(&shown(&photo.name())));
        assert!(is_there(&shown("a")) && !is_there(&Value::Null) && !is_there(&json!({ "file_name": null })));
    }
}
