//! A pull reader over a small part of XML: elements, text, character references. No DTD, no entities but the five that
//! XML has, no processing instructions. Memory and depth are bounded by what the caller asks for: nothing is built that
//! no one asked.

use quick_xml::{
    Reader,
    events::{BytesDecl, BytesRef, BytesStart, Event},
};

use crate::s3::S3Error;

/// Attributes of one element. S3's documents have two at most; checking them for repeats costs their square.
const MAX_ATTRIBUTES: usize = 16;

/// Reads one document. Every error is `MalformedXML`.
pub(super) struct XmlReader<'a> {
    reader: Reader<&'a [u8]>,
}

impl<'a> XmlReader<'a> {
    /// Begins at the document's root, which must have this name. A namespace is allowed, and not asked for.
    pub(super) fn open(body: &'a [u8], root: &str) -> Result<Self, S3Error> {
        let text = str::from_utf8(body).map_err(S3Error::malformed_xml_from)?;
        let mut reader = Reader::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
        reader.config_mut().expand_empty_elements = true;
        reader.config_mut().check_comments = true;
        let mut this = Self { reader };
        let mut first = true;
        loop {
            match this.next()? {
                Event::Decl(declaration) if first => check_declaration(&declaration)?,
                Event::Start(start) if name_of(&start)? == root => return Ok(this),
                event => skip_blank(&event)?,
            }
            first = false;
        }
    }

    /// The next element inside the current one: it becomes the current one. `None` where the current one ends, and
    /// then its parent is current again. Text between elements is refused unless it is white space.
    pub(super) fn child(&mut self) -> Result<Option<Element>, S3Error> {
        loop {
            match self.next()? {
                Event::Start(start) => {
                    return Ok(Some(Element {
                        name: name_of(&start)?,
                        xsi_type: xsi_type(&start),
                    }));
                }
                Event::End(_) => return Ok(None),
                event => skip_blank(&event)?,
            }
        }
    }

    /// The text of the current element, verbatim but for the line ends that XML makes one, and its end. Elements
    /// inside are refused.
    pub(super) fn text(&mut self) -> Result<String, S3Error> {
        let mut text = String::new();
        loop {
            match self.next()? {
                Event::Text(piece) => text.push_str(&piece.xml10_content()),
                Event::CData(piece) => text.push_str(&piece.xml10_content()),
                Event::GeneralRef(reference) => text.push(resolve(&reference)?),
                Event::Comment(_) => {}
                Event::End(_) => return Ok(text),
                Event::Start(_) | Event::Empty(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) | Event::Eof => {
                    return Err(S3Error::malformed_xml());
                }
            }
        }
    }

    /// [`text`](Self::text) without white space around it, for what is no free text.
    pub(super) fn word(&mut self) -> Result<String, S3Error> {
        self.text().map(|text| text.trim().to_owned())
    }

    /// Demands that nothing follows the root.
    pub(super) fn finish(mut self) -> Result<(), S3Error> {
        loop {
            match self.next()? {
                Event::Eof => return Ok(()),
                event => skip_blank(&event)?,
            }
        }
    }

    fn next(&mut self) -> Result<Event<'a>, S3Error> {
        self.reader.read_event().map_err(S3Error::malformed_xml_from)
    }
}

/// An element's start.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Element {
    /// Without a namespace prefix.
    pub(super) name: String,
    /// The value of an attribute `xsi:type`.
    pub(super) xsi_type: Option<String>,
}

/// Passes over white space and comments, and refuses the rest.
fn skip_blank(event: &Event<'_>) -> Result<(), S3Error> {
    match event {
        Event::Comment(_) => Ok(()),
        Event::Text(text) if text.bytes().all(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')) => Ok(()),
        Event::Text(_)
        | Event::Start(_)
        | Event::End(_)
        | Event::Empty(_)
        | Event::CData(_)
        | Event::Decl(_)
        | Event::PI(_)
        | Event::DocType(_)
        | Event::GeneralRef(_)
        | Event::Eof => Err(S3Error::malformed_xml()),
    }
}

/// The local name, once the attributes are known to be well-formed.
fn name_of(start: &BytesStart<'_>) -> Result<String, S3Error> {
    for (count, attribute) in start.attributes().enumerate() {
        if count == MAX_ATTRIBUTES {
            return Err(S3Error::malformed_xml());
        }
        attribute.map_err(S3Error::malformed_xml_from)?;
    }
    Ok(start.local_name().as_ref().to_owned())
}

fn xsi_type(start: &BytesStart<'_>) -> Option<String> {
    start
        .attributes()
        .flatten()
        .find(|attribute| attribute.key.local_name().as_ref() == "type" && attribute.key.prefix().is_some())
        .map(|attribute| attribute.value.as_ref().to_owned())
}

/// Only UTF-8 is read; a declaration that says otherwise is refused rather than disbelieved.
fn check_declaration(declaration: &BytesDecl<'_>) -> Result<(), S3Error> {
    declaration.version().map_err(S3Error::malformed_xml_from)?;
    match declaration.encoding() {
        None => Ok(()),
        Some(Ok(encoding)) if encoding.eq_ignore_ascii_case("utf-8") || encoding.eq_ignore_ascii_case("us-ascii") => {
            Ok(())
        }
        Some(_) => Err(S3Error::malformed_xml()),
    }
}

fn resolve(reference: &BytesRef<'_>) -> Result<char, S3Error> {
    match reference.resolve_char_ref().map_err(S3Error::malformed_xml_from)? {
        Some(character) => Ok(character),
        None => match &**reference {
            "amp" => Ok('&'),
            "lt" => Ok('<'),
            "gt" => Ok('>'),
            "apos" => Ok('\''),
            "quot" => Ok('"'),
            _ => Err(S3Error::malformed_xml()),
        },
    }
}
