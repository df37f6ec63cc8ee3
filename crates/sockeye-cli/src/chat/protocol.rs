//! What the page and the chat say to each other: text messages of JSON, each with its `type`.

use serde::{Deserialize, Serialize};
use sockeye::{Message, Present};

/// The most characters of the name of a person or room.
const LONGEST_NAME: usize = 32;

/// The most characters of what is said at a time.
const LONGEST_TEXT: usize = 2000;

/// What the page says.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum FromPage {
    /// Something for all in the room.
    Say {
        text: String,
        /// Comes back with the message, so that the page knows that it was taken.
        #[serde(default, rename = "ref")]
        reference: u32,
    },
    /// Another name or colour.
    Rename { name: String, color: u16 },
}

impl FromPage {
    pub(super) fn read(message: &Message<'_>) -> Result<Self, &'static str> {
        message
            .as_text()
            .and_then(|text| serde_json::from_str(text).ok())
            .ok_or(r#"a message of this chat is JSON, such as {"type":"say","text":"hello"}"#)
    }
}

/// What the chat says.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum ToPage<'a> {
    /// The first message: as whom the page is known, and who is there.
    Hello { id: String, name: &'a str, color: u16, version: u64, present: Vec<Person<'a>> },
    /// The page's own name and colour have changed.
    You { name: &'a str, color: u16 },
    /// What has changed of who is there. One whose version is not above that of `hello` is in it.
    Presence {
        version: u64,
        joined: Vec<Person<'a>>,
        updated: Vec<Person<'a>>,
        left: Vec<Person<'a>>,
    },
    /// Something was said, by this connection, at this time in milliseconds since 1970.
    Message {
        id: String,
        name: &'a str,
        color: u16,
        text: &'a str,
        time: u64,
        #[serde(rename = "ref")]
        reference: u32,
    },
    /// The rooms that somebody is in.
    Rooms { rooms: Vec<RoomSize> },
    /// What the page has said could not be taken.
    Error { text: &'a str },
}

/// Somebody in a room.
#[derive(Debug, Serialize)]
pub(super) struct Person<'a> {
    name: String,
    /// A hue.
    color: u64,
    /// How many connections are of this name.
    tabs: usize,
    /// The name before it was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    was: Option<&'a str>,
}

impl<'a> Person<'a> {
    pub(super) fn all(present: &'a [Present]) -> Vec<Self> {
        present.iter().map(Self::new).collect()
    }

    fn new(present: &'a Present) -> Self {
        let first = present.metas.first();
        Self {
            name: present.key.to_string(),
            color: first.and_then(|meta| meta["color"].as_u64()).unwrap_or_default(),
            tabs: present.metas.len(),
            was: first.and_then(|meta| meta["was"].as_str()),
        }
    }
}

/// What is known of a connection, for [`Person`].
#[derive(Debug, Serialize)]
pub(super) struct Meta {
    pub(super) color: u16,
    pub(super) was: Option<String>,
}

/// A room, and how many are in it.
#[derive(Debug, Serialize)]
pub(crate) struct RoomSize {
    pub(super) name: String,
    pub(super) people: usize,
}

/// The name as it is shown, if it is one.
pub(super) fn clean_name(name: &str) -> Option<String> {
    let is_long = name.len() > 16 * LONGEST_NAME;
    if is_long || name.contains(char::is_control) {
        return None;
    }
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    (1..=LONGEST_NAME).contains(&name.chars().count()).then_some(name)
}

/// The text without space around it, if there is any and not too much.
pub(super) fn clean_text(text: &str) -> Option<&str> {
    let text = text.trim();
    (1..=LONGEST_TEXT).contains(&text.chars().count()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_has_no_control_characters() {
        let longest = "\u{1f9a6}".repeat(32);
        for (name, expected) in [
            ("ana", Some("ana")),
            ("  Ana   Lu ", Some("Ana Lu")),
            ("<b>Ana</b>", Some("<b>Ana</b>")),
            (&longest, Some(&*longest)),
            (&format!("{longest}x"), None),
            (&" ".repeat(1000), None),
            ("", None),
            ("  ", None),
            ("a\nb", None),
            ("a\0", None),
        ] {
            assert_eq!(clean_name(name).as_deref(), expected, "{name:?}");
        }
    }

    #[test]
    fn a_text_is_neither_empty_nor_long() {
        let longest = "\u{e9}".repeat(2000);
        assert_eq!(clean_text(" two\nlines "), Some("two\nlines"));
        assert_eq!(clean_text(&longest), Some(&*longest));
        assert_eq!(clean_text(&format!("{longest}x")), None);
        assert_eq!(clean_text(" \n"), None);
    }

    #[test]
    fn what_is_no_message_of_the_chat_is_refused() {
        let say = |text: &str, reference| Ok(FromPage::Say { text: text.to_owned(), reference });
        assert_eq!(FromPage::read(&r#"{"type":"say","text":"hi"}"#.into()), say("hi", 0));
        assert_eq!(FromPage::read(&r#"{"type":"say","text":"hi","ref":7}"#.into()), say("hi", 7));
        for text in ["", "hi", "{}", "[]", r#"{"type":"say"}"#, r#"{"type":"shout","text":""}"#] {
            assert!(FromPage::read(&text.into()).is_err(), "{text}");
        }
        let deep = format!(r#"{{"type":"say","text":{}"#, "[".repeat(100_000));
        assert!(FromPage::read(&(&*deep).into()).is_err());
        assert!(FromPage::read(&br#"{"type":"say","text":"hi"}"#[..].into()).is_err(), "binary");
    }
}
