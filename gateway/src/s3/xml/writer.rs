//! Writes documents. It cannot fail, and cannot leave an element open.

use std::fmt::{Display, Write as _};

use bytes::Bytes;

use super::NAMESPACE;

/// A document on its way to be written.
#[derive(Debug)]
pub(in crate::s3) struct XmlWriter {
    out: String,
}

impl XmlWriter {
    /// A document with S3's namespace on its root.
    pub(in crate::s3) fn document(root: &str, content: impl FnOnce(&mut Self)) -> Bytes {
        Self::document_of(512, root, content)
    }

    /// The same for a document of about so many bytes: a long one that grows takes its memory twice and more.
    pub(in crate::s3) fn document_of(bytes: usize, root: &str, content: impl FnOnce(&mut Self)) -> Bytes {
        let mut xml = Self {
            out: String::with_capacity(bytes),
        };
        xml.out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        xml.start(root, &[("xmlns", NAMESPACE)]);
        content(&mut xml);
        xml.end(root);
        xml.out.into()
    }

    /// An error's document: its prolog as the T2 text shows it, without a namespace.
    pub(in crate::s3) fn error_document(content: impl FnOnce(&mut Self)) -> Bytes {
        let mut xml = Self {
            out: String::with_capacity(512),
        };
        xml.out
            .push_str("<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n");
        xml.element("Error", content);
        xml.out.into()
    }

    /// An element with others inside.
    pub(in crate::s3) fn element(&mut self, name: &str, content: impl FnOnce(&mut Self)) {
        self.element_with(name, &[], content);
    }

    pub(in crate::s3) fn element_with(
        &mut self,
        name: &str,
        attributes: &[(&str, &str)],
        content: impl FnOnce(&mut Self),
    ) {
        self.start(name, attributes);
        content(self);
        self.end(name);
    }

    /// An element with text inside.
    pub(in crate::s3) fn text(&mut self, name: &str, text: &str) {
        self.start(name, &[]);
        escape_into(&mut self.out, text);
        self.end(name);
    }

    /// An element with text inside that comes in pieces.
    pub(in crate::s3) fn pieces<'t>(&mut self, name: &str, pieces: impl IntoIterator<Item = &'t str>) {
        self.start(name, &[]);
        for piece in pieces {
            escape_into(&mut self.out, piece);
        }
        self.end(name);
    }

    /// Text inside the current element.
    pub(in crate::s3) fn characters(&mut self, text: &str) {
        escape_into(&mut self.out, text);
    }

    /// An element with what needs no escaping once it is written out: numbers, names of ours.
    pub(in crate::s3) fn value(&mut self, name: &str, value: impl Display) {
        self.text(name, &value.to_string());
    }

    /// An element with text inside, where there is one.
    pub(in crate::s3) fn optional(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    fn start(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.out.push('<');
        self.out.push_str(name);
        for (name, value) in attributes {
            self.out.push(' ');
            self.out.push_str(name);
            self.out.push_str("=\"");
            escape_into(&mut self.out, value);
            self.out.push('"');
        }
        self.out.push('>');
    }

    fn end(&mut self, name: &str) {
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }
}

/// Whether XML 1.0 can say the text at all (XML 1.0, section 2.2).
pub(in crate::s3) fn is_representable(text: &str) -> bool {
    text.chars().all(is_xml_char)
}

fn is_xml_char(c: char) -> bool {
    !matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
}

/// How many bytes a text takes in a document.
pub(in crate::s3) fn escaped_len(text: &str) -> usize {
    let len = |c| match c {
        '&' | '\r' => 5,
        '<' | '>' => 4,
        '"' => 6,
        c if is_xml_char(c) => c.len_utf8(),
        // `&#xfffe;` at most.
        _ => 9,
    };
    text.chars().map(len).sum()
}

/// Line feeds and tabs stand for themselves in text; a carriage return would be read as a line feed. What XML 1.0 has
/// no way to say is written as a character reference, which S3 does too, and which many readers understand.
fn escape_into(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            c if is_xml_char(c) => out.push(c),
            c => {
                // Writing to a string does not fail.
                write!(out, "&#x{:x};", u32::from(c)).unwrap_or_default();
            }
        }
    }
}
