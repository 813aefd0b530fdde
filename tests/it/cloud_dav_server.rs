//! A small WebDAV server over a real socket: as much of the protocol as servers agree on, in memory.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// How the server behaves beside the standard.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manners {
    /// Answers a range with the whole.
    pub(crate) no_ranges: bool,
    /// Moves over what is there even when told not to.
    pub(crate) moves_over: bool,
    /// The `Authorization` every request must carry.
    pub(crate) login: Option<String>,
    /// What it says that is not so.
    pub(crate) lie: Option<Lie>,
    /// How long it takes to list a folder.
    pub(crate) slow_listing: Duration,
}

/// An answer that does not say what was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Moves nothing, and says so inside an answer of success.
    MoveFailsInside,
    /// Deletes nothing, and says so inside an answer of success.
    DeleteFailsInside,
    /// Moves, and the answer is lost on its way.
    MoveIsNotAnswered,
}

/// The server; runs on the test's runtime.
pub(crate) struct DavServer {
    address: SocketAddr,
    tree: Arc<Tree>,
    accepting: JoinHandle<()>,
}

/// Files by path; a folder has no bytes.
type Files = BTreeMap<String, Option<Vec<u8>>>;

struct Tree {
    files: Mutex<Files>,
    manners: Manners,
}

struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
    /// Whether the body came to its end.
    whole: bool,
}

struct Answer {
    status: &'static str,
    headers: String,
    body: Vec<u8>,
}

impl DavServer {
    /// Starts a server with one empty folder, `/dav`.
    pub(crate) async fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("a socket");
        let files = Mutex::new(BTreeMap::from([("/dav".to_owned(), None)]));
        let tree = Arc::new(Tree { files, manners });
        let shared = Arc::clone(&tree);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(talk(client, Arc::clone(&shared)));
            }
        });
        Self { address, tree, accepting }
    }

    /// Where its folder is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/dav", self.address)
    }

    /// Everything that is there, to look behind the server's back.
    pub(crate) fn files(&self) -> MutexGuard<'_, Files> {
        self.tree.files.lock().expect("no holder panicked")
    }
}

impl Drop for DavServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn talk(client: TcpStream, tree: Arc<Tree>) {
    let mut client = BufReader::new(client);
    while let Some(request) = receive(&mut client).await {
        let head = request.method == "HEAD";
        if request.method == "PROPFIND" {
            tokio::time::sleep(tree.manners.slow_listing).await;
        }
        let Answer { status, headers, body } = tree.answer(&request);
        let text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
        let body = if head { &[] } else { &body[..] };
        if client.write_all(&[text.as_bytes(), body].concat()).await.is_err() || !request.whole {
            return;
        }
    }
}

async fn receive(client: &mut BufReader<TcpStream>) -> Option<Request> {
    let line = line(client).await?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), decoded(words.next()?));
    let mut headers = BTreeMap::new();
    while let Some((name, value)) = self::line(client).await?.split_once(": ") {
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut request = Request { method, path, headers, body: Vec::new(), whole: true };
    if request.headers.contains_key("transfer-encoding") {
        request.whole = chunks(client, &mut request.body).await.is_some();
    } else if let Some(length) = request.headers.get("content-length") {
        request.body.resize(length.parse().ok()?, 0);
        client.read_exact(&mut request.body).await.ok()?;
    }
    Some(request)
}

async fn chunks(client: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> Option<()> {
    loop {
        let length = usize::from_str_radix(&line(client).await?, 16).ok()?;
        let begin = body.len();
        body.resize(begin + length, 0);
        client.read_exact(&mut body[begin..]).await.ok()?;
        line(client).await?;
        if length == 0 {
            return Some(());
        }
    }
}

async fn line(client: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    let count = client.read_line(&mut line).await.ok()?;
    (count > 0).then(|| line.trim_end().to_owned())
}

fn decoded(path: &str) -> String {
    path.trim_end_matches('/').replace("%20", " ")
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn plain(status: &'static str) -> Answer {
    Answer { status, headers: String::new(), body: Vec::new() }
}

impl Tree {
    fn answer(&self, request: &Request) -> Answer {
        let mut files = self.files.lock().expect("no holder panicked");
        if self.manners.login.is_some() && request.headers.get("authorization") != self.manners.login.as_ref() {
            return plain("401 Unauthorized");
        }
        let path = &request.path;
        let has_parent = parent(path).is_empty() || files.get(parent(path)) == Some(&None);
        match request.method.as_str() {
            "PUT" | "MKCOL" if !has_parent => plain("409 Conflict"),
            "MKCOL" if files.contains_key(path) => plain("405 Method Not Allowed"),
            "MKCOL" => {
                files.insert(path.clone(), None);
                plain("201 Created")
            }
            // Like many servers, it keeps what came of a body that broke off.
            "PUT" => {
                files.insert(path.clone(), Some(request.body.clone()));
                plain("201 Created")
            }
            "MOVE" => self.rename(&mut files, request),
            "DELETE" if self.manners.lie == Some(Lie::DeleteFailsInside) => plain("207 Multi-Status"),
            "DELETE" if files.remove(path).is_some() => plain("204 No Content"),
            "GET" | "HEAD" => match files.get(path) {
                Some(Some(bytes)) => self.content(bytes, request),
                _ => plain("404 Not Found"),
            },
            "PROPFIND" if files.contains_key(path) => listing(&files, path),
            _ => plain("404 Not Found"),
        }
    }

    fn rename(&self, files: &mut Files, request: &Request) -> Answer {
        let destination = request.headers["destination"].splitn(4, '/').last().unwrap_or_default();
        let destination = decoded(&format!("/{destination}"));
        if files.contains_key(&destination) && request.headers["overwrite"] == "F" && !self.manners.moves_over {
            return plain("412 Precondition Failed");
        }
        if self.manners.lie == Some(Lie::MoveFailsInside) {
            return plain("207 Multi-Status");
        }
        let Some(bytes) = files.remove(&request.path) else { return plain("404 Not Found") };
        files.insert(destination, bytes);
        match self.manners.lie {
            Some(Lie::MoveIsNotAnswered) => plain("504 Gateway Timeout"),
            _ => plain("201 Created"),
        }
    }

    fn content(&self, bytes: &[u8], request: &Request) -> Answer {
        let date = "Last-Modified: Wed, 12 Oct 2022 17:50:00 GMT\r\n";
        let range = request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let Some((first, last)) = range.filter(|_| !self.manners.no_ranges) else {
            return Answer { status: "200 OK", headers: date.to_owned(), body: bytes.to_vec() };
        };
        let first: usize = first.parse().expect("object_store sends numbers");
        let last: usize = last.parse().expect("object_store sends numbers");
        let last = last.min(bytes.len().saturating_sub(1));
        if first >= bytes.len() {
            return plain("416 Range Not Satisfiable");
        }
        let headers = format!("{date}Content-Range: bytes {first}-{last}/{}\r\n", bytes.len());
        Answer { status: "206 Partial Content", headers, body: bytes[first..=last].to_vec() }
    }
}

/// The folder and what is directly in it, in no order worth relying on.
fn listing(files: &Files, folder: &str) -> Answer {
    let mut xml = "<?xml version=\"1.0\"?><D:multistatus xmlns:D=\"DAV:\">".to_owned();
    for (path, bytes) in files.iter().rev().filter(|(path, _)| *path == folder || parent(path) == folder) {
        let kind = match bytes {
            Some(bytes) => format!("<D:getcontentlength>{}</D:getcontentlength><D:resourcetype/>", bytes.len()),
            None => "<D:resourcetype><D:collection/></D:resourcetype>".to_owned(),
        };
        let href = path.replace(' ', "%20");
        let date = "<D:getlastmodified>Wed, 12 Oct 2022 17:50:00 GMT</D:getlastmodified>";
        let status = "<D:status>HTTP/1.1 200 OK</D:status>";
        let _infallible = write!(
            xml,
            "<D:response><D:href>{href}</D:href><D:propstat><D:prop>{date}{kind}</D:prop>{status}</D:propstat></D:response>"
        );
    }
    xml.push_str("</D:multistatus>");
    Answer {
        status: "207 Multi-Status",
        headers: "Content-Type: application/xml\r\n".to_owned(),
        body: xml.into_bytes(),
    }
}
