//! Requests and answers as they are on the wire, taken apart far enough to spoil them.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Between head and body.
const HEAD_END: &[u8] = b"\r\n\r\n";
/// What an error and a lie have about the object that they are not about.
const MADE_UP: [(&str, &str); 2] = [("etag", "\"made-up\""), ("last-modified", "Wed, 12 Oct 2022 17:50:00 GMT")];

/// A request.
#[derive(Debug)]
pub(super) struct Question {
    head: String,
    pub(super) body: Vec<u8>,
}

impl Question {
    /// The next one of a connection; `seen` keeps what was read too far. `None` when the client is gone.
    pub(super) async fn read(client: &mut TcpStream, seen: &mut Vec<u8>) -> Option<Self> {
        let head_bytes = loop {
            if let Some(at) = find(seen, HEAD_END) {
                break at + HEAD_END.len();
            }
            more(client, seen).await?;
        };
        let head = String::from_utf8(seen.drain(..head_bytes).collect()).expect("a head is text");
        let question = Self { head, body: Vec::new() };
        assert!(question.header("transfer-encoding").is_none(), "every request says its length");
        let body_bytes = question.header("content-length").map_or(0, |text| text.parse().expect("a length"));
        while seen.len() < body_bytes {
            more(client, seen).await?;
        }
        Some(Self { body: seen.drain(..body_bytes).collect(), ..question })
    }

    pub(super) fn method(&self) -> &str {
        self.words(0)
    }

    /// Path and query.
    pub(super) fn target(&self) -> &str {
        self.words(1)
    }

    fn words(&self, number: usize) -> &str {
        self.head.split_whitespace().nth(number).expect("a request line")
    }

    fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// Whether it asks what there is: objects or unfinished uploads.
    pub(super) fn is_listing(&self) -> bool {
        self.method() == "GET" && (self.target().contains("list-type=2") || self.target().contains("?uploads"))
    }

    /// Asks the server, on a connection of its own; `None` when that breaks.
    pub(super) async fn ask(&self, server: std::net::SocketAddr) -> Option<Answer> {
        let mut connection = TcpStream::connect(server).await.ok()?;
        let head = self.head.trim_end_matches("\r\n");
        connection.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).await.ok()?;
        connection.write_all(&self.body).await.ok()?;
        let mut bytes = Vec::new();
        connection.read_to_end(&mut bytes).await.ok()?;
        Answer::parse(&bytes, self.method() == "HEAD")
    }
}

/// An answer, with a body that is not in chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    status: String,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8], is_to_head: bool) -> Option<Self> {
        let (head, body) = bytes.split_at(find(bytes, HEAD_END)? + HEAD_END.len());
        let head = std::str::from_utf8(head).ok()?;
        let is_chunked = header(head, "transfer-encoding").is_some_and(|coding| coding == "chunked");
        let body = if is_chunked { unchunked(body)? } else { body.to_vec() };
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next()?.split_once(' ')?.1.to_owned();
        let headers = lines.filter_map(|line| line.split_once(": "));
        let mut headers: Vec<_> = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        // The length of a body is said anew; of an object that HEAD asks about it is part of the answer.
        headers.retain(|(name, _)| match name.as_str() {
            "connection" | "transfer-encoding" => false,
            "content-length" => is_to_head,
            _ => true,
        });
        Some(Self { status, headers, body })
    }

    /// A failure as S3 words it. An answer to HEAD has no body.
    pub(super) fn failure(question: &Question, status: &str, code: &str) -> Self {
        let mut answer = Self { status: status.to_owned(), headers: Vec::new(), body: failure_text(code) };
        if question.method() == "HEAD" {
            answer.body.clear();
            answer.headers.push(("content-length".to_owned(), "0".to_owned()));
        }
        answer
    }

    /// A success that holds a failure, and says of it what would be said of an object.
    pub(super) fn failure_inside(question: &Question) -> Self {
        let mut answer = Self { status: "200 OK".to_owned(), headers: Vec::new(), body: failure_text("InternalError") };
        answer.headers.extend(MADE_UP.map(|(name, value)| (name.to_owned(), value.to_owned())));
        if question.method() == "HEAD" {
            answer.headers.push(("content-length".to_owned(), answer.body.len().to_string()));
            answer.body.clear();
        }
        answer
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {}\r\n", self.status);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.status.starts_with("204") && self.header("content-length").is_none() {
            text.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        [text.as_bytes(), b"\r\n", &self.body].concat()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    fn with_header(&self, name: &str, change: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let mut changed = self.clone();
        let (_, value) = changed.headers.iter_mut().find(|(other, _)| other == name)?;
        *value = change(value)?;
        Some(changed)
    }

    /// All of it but its end: half of the body, or of the head where there is none.
    pub(super) fn half(&self) -> Vec<u8> {
        let mut bytes = self.to_bytes();
        let cut = if self.body.is_empty() { bytes.len() / 2 } else { bytes.len() - self.body.len().div_ceil(2) };
        bytes.truncate(cut);
        bytes
    }

    /// With more in the body than belongs there, and a length that covers it; `None` where an answer can have no body.
    pub(super) fn with_surplus(&self, question: &Question) -> Option<Self> {
        if question.method() == "HEAD" || self.status.starts_with("204") {
            return None;
        }
        Some(Self { body: [&self.body[..], b"surplus"].concat(), ..self.clone() })
    }

    /// As if the range lay one byte further on; `None` where there is none.
    pub(super) fn with_wrong_range(&self) -> Option<Self> {
        self.with_header("content-range", |range| {
            let (begin, end, size) = range.strip_prefix("bytes ").and_then(|range| {
                let (range, size) = range.split_once('/')?;
                let (begin, end) = range.split_once('-')?;
                Some((begin.parse::<u64>().ok()?, end.parse::<u64>().ok()?, size.parse::<u64>().ok()?))
            })?;
            Some(format!("bytes {}-{}/{}", begin + 1, end + 1, size + 1))
        })
    }

    /// With one bit of the body changed; without a body, of the length that HEAD tells. `None` where there is neither.
    pub(super) fn with_flipped_bit(&self, number: usize) -> Option<Self> {
        if self.body.is_empty() {
            return self.with_header("content-length", |length| {
                let length: u64 = length.parse().ok()?;
                Some((length ^ (1 << (number % 8))).to_string())
            });
        }
        Some(Self { body: flipped(&self.body, number), ..self.clone() })
    }

    /// A listing without what it lists; `None` where that is nothing.
    pub(super) fn with_nothing_listed(&self) -> Option<Self> {
        let mut text = String::from_utf8(self.body.clone()).ok()?;
        for name in ["Contents", "Upload"] {
            let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
            while let Some(at) = text.find(&begin) {
                let length = text[at..].find(&end)? + end.len();
                text.replace_range(at..at + length, "");
            }
        }
        let body = text.into_bytes();
        (body != self.body).then(|| Self { body, ..self.clone() })
    }
}

/// With one bit changed, at a place that follows from the number.
pub(super) fn flipped(bytes: &[u8], number: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = number.wrapping_mul(0x9E37_79B9) % bytes.len().max(1);
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << (number % 8);
    }
    bytes
}

fn failure_text(code: &str) -> Vec<u8> {
    let declaration = r#"<?xml version="1.0" encoding="UTF-8"?>"#;
    format!("{declaration}<Error><Code>{code}</Code><Message>the proxy says so</Message></Error>").into_bytes()
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.split("\r\n").filter_map(|line| line.split_once(": "));
    lines.into_iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// The bytes of a body in chunks; `None` where it breaks off.
fn unchunked(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_end = find(chunks, b"\r\n")?;
        let length = std::str::from_utf8(&chunks[..line_end]).ok()?.split(';').next()?;
        let length = usize::from_str_radix(length.trim(), 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        let begin = line_end + 2;
        body.extend_from_slice(chunks.get(begin..begin + length)?);
        chunks = chunks.get(begin + length + 2..)?;
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

async fn more(client: &mut TcpStream, seen: &mut Vec<u8>) -> Option<()> {
    client.read_buf(seen).await.ok().filter(|count| *count > 0).map(|_| ())
}
