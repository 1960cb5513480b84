//! Bodies of errors. The one caller is the layer that turns errors into responses.

use std::{borrow::Cow, fmt::Write as _};

use bytes::Bytes;

use crate::s3::{
    S3Error, S3ErrorCode,
    xml::writer::{XmlWriter, is_representable},
};

/// The document of the T2 text: code, message, resource; then what the error has to add, and the ids. `resource` is
/// `bucket` or `bucket/key` and may be empty. What XML 1.0 cannot say, not even as a reference, is replaced: a client has
/// to be able to read why its key was refused. The message of a failure of ours is the caller's to replace.
pub fn xml_error(error: &S3Error, resource: &str, request_id: &str, host_id: &str) -> Bytes {
    XmlWriter::error_document(|xml| {
        xml.text("Code", error.code().as_str());
        xml.text("Message", error.message());
        xml.text("Resource", &representable(resource));
        for (name, value) in error.fields() {
            xml.text(name, &representable(value));
        }
        xml.text("RequestId", request_id);
        xml.text("HostId", host_id);
    })
}

fn representable(text: &str) -> Cow<'_, str> {
    if is_representable(text) {
        return text.into();
    }
    let replaced = text.chars().map(|c| {
        if is_representable(c.encode_utf8(&mut [0; 4])) {
            c
        } else {
            char::REPLACEMENT_CHARACTER
        }
    });
    replaced.collect::<String>().into()
}

/// The JSON body of the T2 text.
pub fn json_error(code: &str, message: &str, status: u16) -> Bytes {
    let mut json = String::from("{\"code\": ");
    quote_into(&mut json, code);
    json.push_str(", \"message\": ");
    quote_into(&mut json, message);
    // Writing to a string does not fail.
    write!(json, ", \"status\": {status}}}").unwrap_or_default();
    json.into()
}

/// The `code` of a JSON body. Only server errors have one; whatever else comes here is an error of ours.
pub fn json_code(code: S3ErrorCode) -> &'static str {
    match code {
        S3ErrorCode::ServiceUnavailable => "service_unavailable",
        S3ErrorCode::SlowDown => "slow_down",
        _ => "internal_error",
    }
}

/// RFC 8259, section 7.
fn quote_into(json: &mut String, text: &str) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            c if u32::from(c) < 0x20 => write!(json, "\\u{:04x}", u32::from(c)).unwrap_or_default(),
            c => json.push(c),
        }
    }
    json.push('"');
}
