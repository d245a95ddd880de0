//! XML bodies as the service writes them: a byte-order mark, one line, empty elements self-closed.

use crate::error::{Error, Result};
use quick_xml::events::Event;

/// A body under construction.
pub struct Xml {
    text: String,
    open: Vec<String>,
}

impl Xml {
    /// Begins with the prolog and the root element; `attributes` as name and value.
    pub fn new(root: &str, attributes: &[(&str, &str)]) -> Xml {
        let text = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?>".to_owned();
        let mut xml = Xml { text, open: Vec::new() };
        xml.open_with(root, attributes);
        xml
    }

    /// Opens an element.
    pub fn open(&mut self, name: &str) {
        self.open_with(name, &[]);
    }

    fn open_with(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.text.push('<');
        self.text.push_str(name);
        for (name, value) in attributes {
            self.text.push_str(&format!(" {name}=\"{}\"", escape(value)));
        }
        self.text.push('>');
        self.open.push(name.to_owned());
    }

    /// Closes the element opened last.
    pub fn close(&mut self) {
        let name = self.open.pop().expect("an element is open");
        if self.text.ends_with('>') && self.is_empty_element(&name) {
            self.text.pop();
            self.text.push_str(" />");
        } else {
            self.text.push_str(&format!("</{name}>"));
        }
    }

    fn is_empty_element(&self, name: &str) -> bool {
        let start = self.text.rfind('<').expect("an element was opened");
        let tag = &self.text[start + 1..];
        let rest = tag.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['>', ' ']) && !rest.ends_with("/>"))
    }

    /// An element with text alone.
    pub fn element(&mut self, name: &str, text: &str) {
        if text.is_empty() {
            self.text.push_str(&format!("<{name} />"));
        } else {
            // As the service: ETags keep their quotes.
            let text = escape(text).replace("&quot;", "\"");
            self.text.push_str(&format!("<{name}>{text}</{name}>"));
        }
    }

    /// An element for a name: percent-encoded, and said to be, if XML cannot hold it.
    pub fn name_element(&mut self, element: &str, name: &str) {
        if fits_xml(name) {
            self.element(element, name);
        } else {
            let text = crate::names::percent_encode(name);
            self.text.push_str(&format!("<{element} Encoded=\"true\">{text}</{element}>"));
        }
    }

    /// Markup that is known to be whole.
    pub fn raw(&mut self, markup: &str) {
        self.text.push_str(markup);
    }

    /// Closes what is open.
    pub fn finish(mut self) -> Vec<u8> {
        while !self.open.is_empty() {
            self.close();
        }
        self.text.into_bytes()
    }
}

/// Whether XML 1.0 has all the characters of `name`.
pub fn fits_xml(name: &str) -> bool {
    name.chars().all(
        |c| matches!(c, '\t' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..),
    )
}

/// `text` with what XML reserves escaped.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\r' => escaped.push_str("&#13;"),
            _ => escaped.push(letter),
        }
    }
    escaped
}

/// A parsed element of a request's body.
#[derive(Debug, Default, Clone, serde::Serialize, serde::Deserialize)]
pub struct Element {
    /// Its name.
    pub name: String,
    /// Its text, children's not included.
    pub text: String,
    /// What it holds.
    pub children: Vec<Element>,
}

impl Element {
    /// Parses a request's body, whose root must be `root`.
    pub fn parse(body: &[u8], root: &str) -> Result<Element> {
        let invalid = || Error::new("InvalidXmlDocument");
        let text = std::str::from_utf8(body).map_err(|_| invalid())?;
        let mut reader = quick_xml::Reader::from_str(text.trim_start_matches('\u{feff}'));
        let mut stack = vec![Element::default()];
        loop {
            match reader.read_event().map_err(|_| invalid())? {
                Event::Start(start) => {
                    let name = start.name().as_ref().to_owned();
                    stack.push(Element { name, ..Element::default() });
                }
                Event::Empty(start) => {
                    let name = start.name().as_ref().to_owned();
                    let parent = stack.last_mut().ok_or_else(invalid)?;
                    parent.children.push(Element { name, ..Element::default() });
                }
                Event::End(_) => {
                    let done = stack.pop().ok_or_else(invalid)?;
                    stack.last_mut().ok_or_else(invalid)?.children.push(done);
                }
                Event::Text(text) => {
                    stack.last_mut().ok_or_else(invalid)?.text.push_str(&text);
                }
                Event::GeneralRef(entity) => {
                    let letter = match &*entity {
                        "amp" => '&',
                        "lt" => '<',
                        "gt" => '>',
                        "quot" => '"',
                        "apos" => '\'',
                        _ => entity.resolve_char_ref().ok().flatten().ok_or_else(invalid)?,
                    };
                    stack.last_mut().ok_or_else(invalid)?.text.push(letter);
                }
                Event::Eof => break,
                _ => {}
            }
        }
        let document = stack.pop().filter(|_| stack.is_empty()).ok_or_else(invalid)?;
        let found = document.children.into_iter().next();
        found.filter(|element| element.name == root).ok_or_else(invalid)
    }

    /// The first child of that name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The trimmed text of the first child of that name; empty if there is none.
    pub fn text_of(&self, name: &str) -> &str {
        self.child(name).map_or("", |child| child.text.trim())
    }

    /// Writes the element back.
    pub fn write(&self, xml: &mut Xml) {
        if self.children.is_empty() {
            xml.element(&self.name, self.text.trim());
            return;
        }
        xml.open(&self.name);
        for child in &self.children {
            child.write(xml);
        }
        xml.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_elements_are_self_closed_and_text_is_escaped() {
        let mut xml = Xml::new("A", &[("Path", "a\"b")]);
        xml.open("B");
        xml.close();
        xml.open("C");
        xml.element("D", "x<y & z");
        xml.element("E", "");
        xml.name_element("N", "a\u{ffff}");
        xml.close();
        let text = String::from_utf8(xml.finish()).unwrap();
        let expected = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><A Path=\"a&quot;b\"><B />\
            <C><D>x&lt;y &amp; z</D><E /><N Encoded=\"true\">a%EF%BF%BF</N></C></A>";
        assert_eq!(text, expected);
        let empty = String::from_utf8(Xml::new("A", &[("B", "c")]).finish()).unwrap();
        assert!(empty.ends_with("<A B=\"c\" />"), "{empty}");
    }

    #[test]
    fn bodies_are_parsed_whatever_their_prolog() {
        let body = b"<?xml version='1.0' encoding='utf-8'?>\n<A><B>x &amp; &#65;</B><C /></A>";
        let parsed = Element::parse(body, "A").unwrap();
        assert_eq!(parsed.text_of("B"), "x & A");
        assert!(parsed.child("C").is_some());
        for bad in ["<A><B></A>", "<A>", "", "<Z />"] {
            assert_eq!(Element::parse(bad.as_bytes(), "A").unwrap_err().code, "InvalidXmlDocument");
        }
    }
}
