//! What a failed request means to a caller: errors of the wire and answers of servers become [`ErrorKind`]s, with
//! nothing secret in them.

use crate::backend::{Error, ErrorKind};
use object_store::client::{HttpError, HttpErrorKind};
use std::error::Error as StdError;

/// A server's message is shown up to this many characters.
const MESSAGE_CHARS: usize = 200;

/// How `object_store` begins the text of an answer that is not a success. Its type is private; tests hold these words.
const STATUS_WORDS: &str = "Server returned non-2xx status code: ";
/// How it begins the text of a success with an error inside.
const BODY_WORDS: &str = "Server returned error response: ";
/// What it says when a range was asked for and the whole came.
const WHOLE_WORDS: &str = "Received non-partial response when range requested";
/// What it says of a redirection to another region.
const REDIRECT_WORDS: &str = "Received redirect without LOCATION";

/// What was underneath a failed request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Cause {
    #[error("the server answered {status} {code}{message}")]
    Answer { status: u16, code: String, message: String },
    #[error("{text}")]
    Wire { kind: WireFault, text: String },
    #[error("the bucket lies in another region: set --region")]
    OtherRegion,
    #[error("{container:?} does not exist on the server")]
    NoContainer { container: String },
    #[error("{expected} bytes were asked for and {received} came")]
    WrongLength { expected: u64, received: u64 },
    #[error("{written} bytes were written and the server has {stored}")]
    WrongStored { written: u64, stored: u64 },
    #[error("the listing is not in order: {name} came late")]
    Disorder { name: String },
    #[error("unfinished uploads were aborted {rounds} times and are still listed")]
    Lingering { rounds: usize },
    #[error("an earlier write failed")]
    Broken,
    #[error("{text}")]
    Other { text: String },
}

/// How the wire failed, as far as it is told apart here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WireFault {
    /// No connection, or no answer in time.
    Silent,
    /// It broke on the way.
    Broken,
}

impl Cause {
    /// An answer of a server, from its status and its body.
    pub(super) fn answer(status: u16, body: &str) -> Self {
        let code = element(body, "Code").unwrap_or_default().to_owned();
        let message = element(body, "Message").unwrap_or(if body.starts_with('<') { "" } else { body });
        let message = match plain(message) {
            empty if empty.is_empty() => empty,
            text => format!(": {text}"),
        };
        Self::Answer { status, code: plain(&code), message }
    }

    /// What `object_store` reports, without what may hold a secret.
    pub(super) fn of(error: &object_store::Error) -> Self {
        let mut next: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(link) = next {
            if let Some(wire) = link.downcast_ref::<HttpError>() {
                return Self::wire(wire);
            }
            let text = link.to_string();
            if let Some((status, body)) = text.strip_prefix(STATUS_WORDS).and_then(split_status) {
                return Self::answer(status, body);
            }
            if let Some(body) = text.strip_prefix(BODY_WORDS) {
                return Self::answer(200, body);
            }
            if text.starts_with(REDIRECT_WORDS) {
                return Self::OtherRegion;
            }
            next = link.source();
        }
        Self::Other { text: plain(&error.to_string()) }
    }

    /// What the wire reports.
    pub(super) fn wire(error: &HttpError) -> Self {
        let kind = match error.kind() {
            HttpErrorKind::Connect | HttpErrorKind::Timeout => WireFault::Silent,
            _ => WireFault::Broken,
        };
        Self::Wire { kind, text: innermost(error) }
    }

    /// What `reqwest` reports, without the address, which its callers name.
    pub(super) fn of_request(error: reqwest::Error) -> Self {
        let silent = error.is_timeout() || error.is_connect();
        let kind = if silent { WireFault::Silent } else { WireFault::Broken };
        Self::Wire { kind, text: innermost(&error.without_url()) }
    }

    /// What a caller can do about it.
    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            Self::Answer { status, code, .. } => kind_of_answer(*status, code),
            Self::Wire { kind: WireFault::Silent, .. } => ErrorKind::Unreachable,
            Self::Wire { kind: WireFault::Broken, .. } | Self::WrongLength { .. } | Self::Lingering { .. } => {
                ErrorKind::Transient
            }
            Self::OtherRegion | Self::NoContainer { .. } => ErrorKind::Settings,
            Self::WrongStored { .. } | Self::Disorder { .. } | Self::Broken | Self::Other { .. } => ErrorKind::Failed,
        }
    }

    /// The outward error.
    pub(super) fn doing(self, doing: impl Into<String>) -> Error {
        Error::with_source(self.kind(), doing, self)
    }
}

/// Whether the server does not do ranges and answered with the whole.
pub(super) fn answered_whole(error: &object_store::Error) -> bool {
    match error {
        object_store::Error::NotSupported { .. } => true,
        object_store::Error::Generic { source, .. } => source.to_string() == WHOLE_WORDS,
        _ => false,
    }
}

/// Whether the server said that there is no such bucket or container.
pub(super) fn says_no_container(cause: &Cause) -> bool {
    matches!(cause, Cause::Answer { code, .. } if matches!(code.as_str(), "NoSuchBucket" | "ContainerNotFound"))
}

fn kind_of_answer(status: u16, code: &str) -> ErrorKind {
    match code {
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken" | "AccessDenied" => {
            return ErrorKind::Denied;
        }
        "NoSuchBucket" | "ContainerNotFound" | "AuthorizationHeaderMalformed" | "PermanentRedirect" => {
            return ErrorKind::Settings;
        }
        "QuotaExceeded" | "QuotaExceededException" | "XMinioStorageFull" | "InsufficientStorage" => {
            return ErrorKind::NoSpace;
        }
        "SlowDown" | "InternalError" | "OperationAborted" | "ConditionalRequestConflict" | "RequestTimeout" => {
            return ErrorKind::Transient;
        }
        _ => {}
    }
    match status {
        401 | 403 => ErrorKind::Denied,
        404 | 410 => ErrorKind::NotFound,
        409 | 412 => ErrorKind::AlreadyExists,
        416 => ErrorKind::OutOfRange,
        507 => ErrorKind::NoSpace,
        501 | 505 => ErrorKind::Failed,
        408 | 425 | 429 | 500..=599 => ErrorKind::Transient,
        300..=399 => ErrorKind::Settings,
        _ => ErrorKind::Failed,
    }
}

/// `403 Forbidden: body` taken apart.
fn split_status(text: &str) -> Option<(u16, &str)> {
    let status = text.get(..3)?.parse().ok()?;
    Some((status, text.split_once(": ").map_or("", |(_, body)| body)))
}

/// What stands between `<name>` and `</name>`.
fn element<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inside, _)| inside)
}

/// A stranger's text on one line, without control characters, of a bounded length.
fn plain(text: &str) -> String {
    let visible = text.trim().chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    visible.take(MESSAGE_CHARS).collect()
}

/// The last error of a chain says most: `Connection refused (os error 111)`.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut link = error;
    while let Some(next) = link.source() {
        link = next;
    }
    plain(&link.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_its_kind() {
        let expected = [
            (401, "", ErrorKind::Denied),
            (403, "<Code>SignatureDoesNotMatch</Code>", ErrorKind::Denied),
            (400, "<Code>ExpiredToken</Code>", ErrorKind::Denied),
            (404, "<Code>NoSuchKey</Code>", ErrorKind::NotFound),
            (404, "<Code>NoSuchBucket</Code>", ErrorKind::Settings),
            (404, "<Code>ContainerNotFound</Code>", ErrorKind::Settings),
            (301, "", ErrorKind::Settings),
            (412, "", ErrorKind::AlreadyExists),
            (409, "<Code>ConditionalRequestConflict</Code>", ErrorKind::Transient),
            (416, "", ErrorKind::OutOfRange),
            (429, "", ErrorKind::Transient),
            (500, "", ErrorKind::Transient),
            (503, "<Code>SlowDown</Code>", ErrorKind::Transient),
            (200, "<Code>InternalError</Code>", ErrorKind::Transient),
            (507, "", ErrorKind::NoSpace),
            (403, "<Code>QuotaExceeded</Code>", ErrorKind::NoSpace),
            (501, "<Code>NotImplemented</Code>", ErrorKind::Failed),
            (400, "", ErrorKind::Failed),
        ];
        for (status, body, kind) in expected {
            assert_eq!(Cause::answer(status, body).kind(), kind, "{status} {body}");
        }
    }

    #[test]
    fn a_strangers_message_is_one_short_line() {
        let long = format!("<Code>X</Code><Message>a\n\u{1b}[31m{}</Message>", "b".repeat(1000));
        let shown = Cause::answer(400, &long).to_string();
        assert!(shown.len() < 260 && !shown.chars().any(char::is_control), "{shown}");
        assert_eq!(Cause::answer(502, "<html>bad</html>").to_string(), "the server answered 502 ");
    }
}
