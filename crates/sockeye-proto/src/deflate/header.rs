//! How offers and answers are written, and read strictly (RFC 6455 section 9.1, RFC 7692 section 7.1).

use std::{borrow::Cow, fmt, iter, mem, str::FromStr};

use http::{HeaderMap, HeaderValue, header};

use super::{
    ClientWindow, NAME, Offer, ParameterError, Parameters, WindowBits,
    negotiate::{
        CLIENT_MAX_WINDOW_BITS, CLIENT_NO_CONTEXT_TAKEOVER, SERVER_MAX_WINDOW_BITS,
        SERVER_NO_CONTEXT_TAKEOVER,
    },
};
use crate::handshake::is_token;

/// The offers of permessage-deflate in the headers of a request, in the client's order of
/// preference, each as it is or with what is wrong about it. Other extensions are left out.
///
/// ```
/// use http::{HeaderMap, header::SEC_WEBSOCKET_EXTENSIONS};
/// use sockeye_proto::deflate;
///
/// let mut headers = HeaderMap::new();
/// let value = "x-other, permessage-deflate; server_max_window_bits=7, permessage-deflate";
/// headers.insert(SEC_WEBSOCKET_EXTENSIONS, value.parse()?);
/// let offers: Vec<_> = deflate::offers(&headers).collect();
/// assert!(offers[0].is_err());
/// assert_eq!(offers[1], Ok(deflate::Offer::default()));
/// # Ok::<(), http::header::InvalidHeaderValue>(())
/// ```
pub fn offers(headers: &HeaderMap) -> impl Iterator<Item = Result<Offer, ParameterError>> {
    elements(headers)
        .into_iter()
        .map(|element| element.parse())
        .filter(|offer| !matches!(offer, Err(ParameterError::OtherExtension(_))))
}

/// The offers as one header's value; none for no offers, as the list has one element at least (RFC
/// 6455 section 9.1).
pub(crate) fn offered(offers: &[Offer]) -> Option<HeaderValue> {
    let elements: Vec<_> = offers.iter().map(Offer::to_string).collect();
    (!elements.is_empty()).then(|| value_of(&elements.join(", ")))
}

/// The elements of all headers; what is not even text is an element too.
pub(crate) fn elements(headers: &HeaderMap) -> Vec<Cow<'_, str>> {
    let mut elements = Vec::new();
    for value in headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS) {
        match value.to_str() {
            Ok(text) => elements.extend(list(text).map(Cow::Borrowed)),
            Err(_) => elements.push(String::from_utf8_lossy(value.as_bytes())),
        }
    }
    elements
}

/// The name of an element of that list.
pub(crate) fn name(element: &str) -> &str {
    split(element, b';').next().unwrap_or_default()
}

impl Parameters {
    /// The element as a header's value.
    pub fn header_value(&self) -> HeaderValue {
        value_of(self)
    }
}

impl FromStr for Offer {
    type Err = ParameterError;

    /// `extension-token *( ";" extension-param )` (RFC 6455 section 9.1).
    fn from_str(element: &str) -> Result<Self, ParameterError> {
        let malformed = || ParameterError::Malformed(element.to_owned());
        let mut parts = split(element, b';');
        let extension = parts.next().filter(|name| is_token(name)).ok_or_else(malformed)?;
        // The form first: it is wrong whatever the extension.
        let parameters: Option<Vec<_>> = parts.map(parameter).collect();
        let parameters = parameters.ok_or_else(malformed)?;
        if extension != NAME {
            return Err(ParameterError::OtherExtension(extension.to_owned()));
        }
        let mut offer = Self::default();
        for (name, value) in parameters {
            offer.set(name, value.as_deref())?;
        }
        Ok(offer)
    }
}

impl FromStr for Parameters {
    type Err = ParameterError;

    fn from_str(element: &str) -> Result<Self, ParameterError> {
        let offer: Offer = element.parse()?;
        let client_max_window_bits = match offer.client_max_window_bits {
            ClientWindow::Unbounded => None,
            ClientWindow::AtMost(bits) => Some(bits),
            // Only an offer may leave the value out (section 7.1.2.2).
            ClientWindow::Any => {
                let name = CLIENT_MAX_WINDOW_BITS;
                return Err(ParameterError::Value { name, value: String::new() });
            }
        };
        Ok(Self {
            server_no_context_takeover: offer.server_no_context_takeover,
            client_no_context_takeover: offer.client_no_context_takeover,
            server_max_window_bits: offer.server_max_window_bits,
            client_max_window_bits,
        })
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client_max_window_bits = match self.client_max_window_bits {
            ClientWindow::AtMost(bits) => Some(bits),
            ClientWindow::Unbounded | ClientWindow::Any => None,
        };
        Parameters {
            server_no_context_takeover: self.server_no_context_takeover,
            client_no_context_takeover: self.client_no_context_takeover,
            server_max_window_bits: self.server_max_window_bits,
            client_max_window_bits,
        }
        .fmt(f)?;
        if self.client_max_window_bits == ClientWindow::Any {
            write!(f, "; {CLIENT_MAX_WINDOW_BITS}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)?;
        if self.server_no_context_takeover {
            write!(f, "; {SERVER_NO_CONTEXT_TAKEOVER}")?;
        }
        if self.client_no_context_takeover {
            write!(f, "; {CLIENT_NO_CONTEXT_TAKEOVER}")?;
        }
        if let Some(bits) = self.server_max_window_bits {
            write!(f, "; {SERVER_MAX_WINDOW_BITS}={bits}")?;
        }
        if let Some(bits) = self.client_max_window_bits {
            write!(f, "; {CLIENT_MAX_WINDOW_BITS}={bits}")?;
        }
        Ok(())
    }
}

impl Offer {
    /// Takes up one parameter. An offer with one that is unknown, has a wrong value, or is there
    /// twice has to be declined, and such an answer fails the connection (section 7).
    fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), ParameterError> {
        match name {
            SERVER_NO_CONTEXT_TAKEOVER => {
                let known = SERVER_NO_CONTEXT_TAKEOVER;
                flag(&mut self.server_no_context_takeover, known, value)
            }
            CLIENT_NO_CONTEXT_TAKEOVER => {
                let known = CLIENT_NO_CONTEXT_TAKEOVER;
                flag(&mut self.client_no_context_takeover, known, value)
            }
            SERVER_MAX_WINDOW_BITS => {
                let bits = window_bits(SERVER_MAX_WINDOW_BITS, value.unwrap_or_default())?;
                once(self.server_max_window_bits.replace(bits).is_none(), SERVER_MAX_WINDOW_BITS)
            }
            CLIENT_MAX_WINDOW_BITS => {
                let window = match value {
                    None => ClientWindow::Any,
                    Some(value) => {
                        ClientWindow::AtMost(window_bits(CLIENT_MAX_WINDOW_BITS, value)?)
                    }
                };
                let before = mem::replace(&mut self.client_max_window_bits, window);
                once(before == ClientWindow::Unbounded, CLIENT_MAX_WINDOW_BITS)
            }
            unknown => Err(ParameterError::Unknown(unknown.to_owned())),
        }
    }
}

/// A parameter that has no value (section 7.1.1).
fn flag(target: &mut bool, name: &'static str, value: Option<&str>) -> Result<(), ParameterError> {
    match value {
        None => once(!mem::replace(target, true), name),
        Some(value) => Err(ParameterError::Value { name, value: value.to_owned() }),
    }
}

fn window_bits(name: &'static str, value: &str) -> Result<WindowBits, ParameterError> {
    let wrong = || ParameterError::Value { name, value: value.to_owned() };
    WindowBits::parse(value).ok_or_else(wrong)
}

fn once(first: bool, name: &'static str) -> Result<(), ParameterError> {
    if first { Ok(()) } else { Err(ParameterError::Duplicate(name)) }
}

/// `token [ "=" (token | quoted-string) ]`, where "the value after quoted-string unescaping MUST
/// conform to the 'token' ABNF" too (RFC 6455 section 9.1).
fn parameter(part: &str) -> Option<(&str, Option<Cow<'_, str>>)> {
    let Some((name, value)) = part.split_once('=') else {
        return is_token(part).then_some((part, None));
    };
    let (name, value) = (trimmed(name), unquoted(trimmed(value))?);
    (is_token(name) && is_token(&value)).then_some((name, Some(value)))
}

/// The value without its quotes, if it has them, and without backslashes in them.
fn unquoted(value: &str) -> Option<Cow<'_, str>> {
    let Some(rest) = value.strip_prefix('"') else { return Some(Cow::Borrowed(value)) };
    let mut plain = String::with_capacity(rest.len());
    let mut characters = rest.chars();
    loop {
        match characters.next()? {
            '"' => break,
            '\\' => plain.push(characters.next()?),
            character => plain.push(character),
        }
    }
    characters.as_str().is_empty().then_some(Cow::Owned(plain))
}

/// The elements of a list, of which some may be empty (RFC 9110 section 5.6.1).
fn list(text: &str) -> impl Iterator<Item = &str> {
    split(text, b',').filter(|element| !element.is_empty())
}

/// What stands between separators that are not quoted.
fn split(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    iter::from_fn(move || {
        let text = rest.take()?;
        let end = find(text, separator);
        rest = end.and_then(|end| text.get(end + 1..));
        Some(trimmed(&text[..end.unwrap_or(text.len())]))
    })
}

fn find(text: &str, separator: u8) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.bytes().position(|byte| {
        let was_escaped = escaped;
        escaped = quoted && byte == b'\\' && !was_escaped;
        quoted ^= byte == b'"' && !was_escaped;
        byte == separator && !quoted
    })
}

fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

fn value_of(element: &impl ToString) -> HeaderValue {
    let text = element.to_string();
    HeaderValue::try_from(text).expect("names, digits and separators are a header's value")
}
