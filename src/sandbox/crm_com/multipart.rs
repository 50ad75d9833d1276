//! Forms in several parts (RFC 7578), as far as a photo needs them.

use bytes::Bytes;
use http::header;

/// One part of a form.
pub(super) struct Part<'a> {
    pub(super) name: String,
    pub(super) file_name: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) content: &'a [u8],
}

/// The parts of a body; `None` if it is no such form.
pub(super) fn parts(request: &http::Request<Bytes>) -> Option<Vec<Part<'_>>> {
    let content_type = request.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    let boundary = content_type.strip_prefix("multipart/form-data; boundary=")?.trim_matches('"');
    let delimiter = format!("\r\n--{boundary}");
    let mut rest = request.body().strip_prefix(format!("--{boundary}").as_bytes())?;
    let mut parts = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix(b"--") {
            return matches!(after, b"" | b"\r\n").then_some(parts);
        }
        rest = rest.strip_prefix(b"\r\n")?;
        let end = find(rest, delimiter.as_bytes())?;
        let (part, after) = rest.split_at(end);
        parts.push(read(part)?);
        rest = after.get(delimiter.len()..)?;
    }
}

fn read(part: &[u8]) -> Option<Part<'_>> {
    let end = find(part, b"\r\n\r\n")?;
    let (head, content) = part.split_at(end);
    let content = content.get(4..)?;
    let head = std::str::from_utf8(head).ok()?;
    let content_type = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-type").then(|| value.trim().to_lowercase())
    });
    let disposition = head.lines().find(|line| line.to_lowercase().starts_with("content-disposition: form-data"))?;
    let parameter = |name: &str| {
        let start = format!("{name}=\"");
        let found = disposition.split("; ").find_map(|parameter| parameter.strip_prefix(&start));
        found.and_then(|value| value.strip_suffix('"')).map(str::to_owned)
    };
    Some(Part { name: parameter("name")?, file_name: parameter("filename"), content_type, content })
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}
