//! Gives the metrics to whoever collects them: HTTP, `GET /metrics` and nothing else, within limits.

use crate::error::{Error, Result};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Collectors that are heard at once; others wait.
const MAX_COLLECTORS: usize = 8;
/// The head of a request is at most so long; the least that the library allows.
const MAX_HEAD_BYTES: usize = 8192;
/// How long a collector has to ask.
const ASK_DEADLINE: Duration = Duration::from_secs(5);
/// How long it has for everything.
const DEADLINE: Duration = Duration::from_secs(10);
/// After an error of accept, which would come again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
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
        let failed = |error| Error::local(format!("listening at {address} for collectors of metrics"), error);
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
        let (places, mut heard) = (Arc::new(Semaphore::new(MAX_COLLECTORS)), JoinSet::new());
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await.ok()?;
                match self.listener.accept().await {
                    Ok((stream, _)) => Some((stream, place)),
                    Err(_) => {
                        sleep(ACCEPT_PAUSE).await;
                        None
                    }
                }
            };
            tokio::select! {
                accepted = accepted => if let Some((stream, place)) = accepted {
                    let text = text.clone();
                    heard.spawn(async move {
                        timeout(DEADLINE, hear(stream, text)).await.ok();
                        drop(place);
                    });
                },
                Some(_) = heard.join_next() => {}
                () = stopping.cancelled() => break,
            }
        }
        heard.shutdown().await;
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
