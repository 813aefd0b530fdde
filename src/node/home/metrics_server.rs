//! Gives the metrics to whoever collects them: HTTP, `GET /metrics` and nothing else, within limits.

use super::door::{Places, WhenFull, hear_all};
use crate::error::{Error, Result};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Collectors that are heard at once; beyond them the one that has been there longest goes.
const MAX_COLLECTORS: usize = 16;
/// The head of a request is at most so long; the least that the library allows.
const MAX_HEAD_BYTES: usize = 8192;
/// How long a collector has to ask.
const ASK_DEADLINE: Duration = Duration::from_secs(5);
/// How long it has for everything.
const DEADLINE: Duration = Duration::from_secs(10);
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A socket that collectors call.
#[derive(Debug)]
pub(super) struct MetricsServer {
    listener: TcpListener,
    address: SocketAddr,
}

impl MetricsServer {
    /// At this address; port 0 is any that is free.
    pub(super) async fn bind(address: SocketAddr) -> Result<Self> {
        let failed = |error| {
            Error::local(format!("listening at {address} for collectors of metrics"), error)
                .with_hint("choose another address with --metrics-listen; port 0 is any that is free")
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub(super) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers until it is told to stop; then nothing of it is left.
    pub(super) async fn run<F>(self, text: impl Fn() -> F + Clone + Send + Sync + 'static, stopping: CancellationToken)
    where
        F: Future<Output = String> + Send + 'static,
    {
        let places = Places { count: MAX_COLLECTORS, when_full: WhenFull::OldestGoes, last_answers: Duration::ZERO };
        let hear_one = move |stream| {
            let text = text.clone();
            async move { drop(timeout(DEADLINE, hear(stream, text)).await) }
        };
        hear_all(&self.listener, places, hear_one, stopping).await;
    }
}

async fn hear<F: Future<Output = String>>(stream: TcpStream, text: impl Fn() -> F) {
    let text = &text;
    let answer = service_fn(move |request: Request<Incoming>| async move {
        Ok::<_, Infallible>(answer(request.method(), request.uri().path(), text).await)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ASK_DEADLINE)
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer);
    if let Err(error) = connection.await {
        tracing::debug!("a collector of metrics: {error}");
    }
}

async fn answer<F: Future<Output = String>>(method: &Method, path: &str, text: impl Fn() -> F) -> Response<String> {
    let (status, body) = match (method, path) {
        (&Method::GET, "/metrics") => (StatusCode::OK, text().await),
        (&Method::GET, _) => (StatusCode::NOT_FOUND, "there is /metrics here, and nothing else\n".to_owned()),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "GET /metrics\n".to_owned()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let format = if status == StatusCode::OK { TEXT_FORMAT } else { "text/plain; charset=utf-8" };
    response.headers_mut().insert(CONTENT_TYPE, format.parse().expect("it is plain text"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, "GET".parse().expect("it is plain text"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn collect(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n").await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    }

    #[tokio::test]
    async fn collectors_that_say_nothing_keep_nobody_from_the_metrics() {
        let server = MetricsServer::bind("127.0.0.1:0".parse().expect("an address")).await.expect("bound");
        let (address, stopping) = (server.local_addr(), CancellationToken::new());
        let serving = tokio::spawn(server.run(|| async { "up 1\n".to_owned() }, stopping.clone()));
        let mut silent = Vec::new();
        for number in 0..3 * MAX_COLLECTORS {
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            if number % 2 == 0 {
                stream.write_all(b"GET /met").await.expect("sent");
            }
            silent.push(stream);
        }
        // Much sooner than any of those would be cut off for its silence.
        let answer = timeout(ASK_DEADLINE / 2, collect(address)).await.expect("at once");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("up 1\n"), "{answer}");
        stopping.cancel();
        serving.await.expect("it ends");
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_told_with_what_to_do() {
        let server = MetricsServer::bind("127.0.0.1:0".parse().expect("an address")).await.expect("bound");
        let error = MetricsServer::bind(server.local_addr()).await.expect_err("taken");
        assert!(error.hint.is_some_and(|hint| hint.contains("--metrics-listen")));
    }
}
