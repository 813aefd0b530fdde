//! What sessions and streams between nodes cost: memory, handshakes, throughput beside plain TLS over TCP, bytes on the way.
//!
//! The node that is measured is a process of its own: this program, started again. It listens, takes streams and reads them to their
//! end, or keeps them.

use shard::node::{Node, NodeConfig, ServiceStream};
use shard::peer::transport::{GateLimits, Session};
use shard::peer::{
    FrameReader, GroupSeed, MAX_MESSAGE_BYTES, NodeIdentity, PeerAddress, SeedRing, StreamPurpose, Tls, TransportKind,
};
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Says to a process of this program that it is the node.
const WORK: &str = "SHARD_NODE_BENCH";
const BOTH: [TransportKind; 2] = [TransportKind::Quic, TransportKind::WebSocket];
const IDLE_SESSIONS: usize = 1000;
/// Streams that are kept open, so many in each session.
const KEPT_SESSIONS: usize = 50;
const KEPT_STREAMS: usize = 100;
const HANDSHAKES: usize = 500;
/// Calls that are under way at once.
const AT_ONCE: usize = 8;
const COPY_BYTES: usize = 256 * 1024 * 1024;
const PAIRS: usize = 7;
/// Streams with this number are kept open, others are read.
const KEPT: u64 = 1;
const READ: u64 = 2;
/// What is written at a time.
const CHUNK_BYTES: usize = MAX_MESSAGE_BYTES;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

#[expect(clippy::print_stdout, reason = "a bench prints")]
fn say(text: &str) {
    println!("{text}");
}

fn config(number: u8) -> NodeConfig {
    let mut config =
        NodeConfig::new(NodeIdentity::from_seed(&[number; 32]), SeedRing::new(GroupSeed::from_bytes([7; 32])));
    config.limits =
        GateLimits { sessions: 10_000, sessions_per_address: 10_000, handshakes: 256, handshakes_per_address: 256 };
    config.handshake_deadline = Duration::from_secs(30);
    config
}

fn tls(number: u8) -> Outcome<Tls> {
    let config = config(number);
    Ok(Tls::new(&config.identity, &config.seeds, TransportKind::WebSocket)?)
}

fn main() -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if std::env::var_os(WORK).is_some() {
        return runtime.block_on(serve());
    }
    // Cargo asks benches for their names when it runs tests.
    if std::env::args().any(|word| word == "--list") {
        return Ok(());
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str()));
    runtime.block_on(async {
        for transport in BOTH {
            if is_wanted("memory") {
                memory_of_sessions(transport).await?;
                memory_of_streams(transport).await?;
            }
            if is_wanted("handshakes") {
                handshakes(transport).await?;
            }
        }
        if is_wanted("throughput") {
            throughput().await?;
        }
        Ok(())
    })
}

/// The node: it says where it listens, and ends when its standard input does.
async fn serve() -> Outcome {
    let mut config = config(1);
    config.listen = Some("127.0.0.1:0".parse()?);
    config.websocket_listen = config.listen;
    let node = Node::start(config).await?;
    let mut services = node.services().ok_or("taken once")?;
    tokio::spawn(async move {
        while let Some(stream) = services.next().await {
            tokio::spawn(async move { take(stream).await.ok() });
        }
    });
    let plain = TcpListener::bind("127.0.0.1:0").await?;
    let acceptor = TlsAcceptor::from(tls(1)?.server);
    let addresses = [node.local_addr().ok_or("none")?, node.websocket_addr().ok_or("none")?, plain.local_addr()?];
    tokio::spawn(async move {
        while let Ok((stream, _)) = plain.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move { take_plain(stream, acceptor).await.ok() });
        }
    });
    say(&addresses.map(|address| address.to_string()).join(" "));
    let waiting = tokio::task::spawn_blocking(|| std::io::stdin().lines().count());
    waiting.await?;
    Ok(())
}

/// Reads frames to the end of the stream and answers with how many bytes there were, or keeps it as it is.
async fn take(incoming: ServiceStream) -> Result<(), shard::peer::transport::PeerError> {
    let (mut stream, mut reader, mut bytes) = (incoming.stream, FrameReader::new(CHUNK_BYTES), 0_u64);
    while let Some(frame) = stream.receive.next_frame(&mut reader).await? {
        bytes += frame.len() as u64;
        if incoming.service == KEPT {
            stream.send.send_frame(&bytes.to_le_bytes()).await?;
        }
    }
    stream.send.send_frame(&bytes.to_le_bytes()).await?;
    stream.send.finish().await
}

async fn take_plain(stream: TcpStream, acceptor: TlsAcceptor) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = acceptor.accept(stream).await?;
    let (mut left, mut room) = (stream.read_u64().await?, vec![0; CHUNK_BYTES]);
    while left > 0 {
        let read = stream.read(&mut room).await?;
        left = left.saturating_sub(read as u64);
        if read == 0 {
            break;
        }
    }
    stream.write_u64(left).await?;
    stream.shutdown().await
}

/// A process of this program that serves a node.
struct Server {
    child: Child,
    _stdin: ChildStdin,
    quic: PeerAddress,
    websocket: PeerAddress,
    plain: SocketAddr,
}

impl Server {
    fn start() -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .env(WORK, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().ok_or("a pipe")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("a pipe")?).read_line(&mut line)?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [quic, websocket, plain] = words[..] else { return Err("it does not serve".into()) };
        let (quic, websocket) = (format!("node://{quic}").parse()?, format!("node+ws://{websocket}").parse()?);
        Ok(Self { child, _stdin: stdin, quic, websocket, plain: plain.parse()? })
    }

    fn address(&self, transport: TransportKind) -> &PeerAddress {
        match transport {
            TransportKind::Quic => &self.quic,
            TransportKind::WebSocket => &self.websocket,
        }
    }

    /// What is resident of it, in KiB.
    fn resident_kib(&self) -> Outcome<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.split_whitespace().next().ok_or("no number")?.parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn sessions(client: &Node, address: &PeerAddress, count: usize) -> Outcome<Vec<Session>> {
    let mut sessions = Vec::new();
    while sessions.len() < count {
        let calls = (0..AT_ONCE.min(count - sessions.len())).map(|_| client.connect(address));
        sessions.extend(futures_util::future::try_join_all(calls).await?);
    }
    Ok(sessions)
}

/// Waits for what was begun at once with the last sessions to be done, and to be given back.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(2)).await;
}

async fn memory_of_sessions(transport: TransportKind) -> Outcome {
    let (server, client) = (Server::start()?, Node::start(config(2)).await?);
    // What the first sessions bring with them is there for all.
    sessions(&client, server.address(transport), 20).await?;
    settle().await;
    let before = server.resident_kib()?;
    sessions(&client, server.address(transport), IDLE_SESSIONS).await?;
    settle().await;
    let each = (server.resident_kib()? - before) / IDLE_SESSIONS as f64;
    say(&format!("memory/session/{transport:?}: {each:.1} KiB each of {IDLE_SESSIONS} idle sessions"));
    client.stop(Duration::from_secs(5)).await;
    Ok(())
}

async fn memory_of_streams(transport: TransportKind) -> Outcome {
    let (server, client) = (Server::start()?, Node::start(config(2)).await?);
    let sessions = sessions(&client, server.address(transport), KEPT_SESSIONS).await?;
    settle().await;
    let before = server.resident_kib()?;
    let mut kept = Vec::new();
    for session in &sessions {
        for _ in 0..KEPT_STREAMS {
            let mut stream = session.open(StreamPurpose::Service(KEPT)).await?;
            // Something went both ways: it is not only a number.
            stream.send.send_frame(&[7; 100]).await?;
            stream.receive.next_frame(&mut FrameReader::new(16)).await?;
            kept.push(stream);
        }
    }
    settle().await;
    let each = (server.resident_kib()? - before) / kept.len() as f64;
    say(&format!("memory/stream/{transport:?}: {each:.1} KiB each of {} open streams", kept.len()));
    drop(kept);
    client.stop(Duration::from_secs(5)).await;
    Ok(())
}

async fn handshakes(transport: TransportKind) -> Outcome {
    let (server, client) = (Server::start()?, Node::start(config(2)).await?);
    sessions(&client, server.address(transport), AT_ONCE).await?;
    let begun = Instant::now();
    sessions(&client, server.address(transport), HANDSHAKES).await?;
    let rate = HANDSHAKES as f64 / begun.elapsed().as_secs_f64();
    say(&format!("handshakes/{transport:?}: {rate:.0} a second, {AT_ONCE} at once, both ends on this machine"));
    client.stop(Duration::from_secs(5)).await;
    Ok(())
}

/// Sends so many bytes over so many streams, and waits until all are there.
async fn send(session: &Session, streams: usize) -> Outcome<Duration> {
    let begun = Instant::now();
    let sends = (0..streams).map(|_| {
        let session = session.clone();
        tokio::spawn(async move {
            let mut stream = session.open(StreamPurpose::Service(READ)).await?;
            let chunk = vec![7; CHUNK_BYTES];
            for _ in 0..COPY_BYTES / CHUNK_BYTES / streams {
                stream.send.send_frame(&chunk).await?;
            }
            stream.send.finish().await?;
            stream.receive.next_frame(&mut FrameReader::new(16)).await
        })
    });
    for sent in sends.collect::<Vec<_>>() {
        let bytes = sent.await??.ok_or("no answer")?;
        let bytes = u64::from_le_bytes(bytes.as_ref().try_into()?);
        assert_eq!(bytes, (COPY_BYTES / streams) as u64);
    }
    Ok(begun.elapsed())
}

/// The same over TLS alone, with the same keys, on as many connections.
async fn send_plain(address: SocketAddr, connector: &TlsConnector, streams: usize) -> Outcome<Duration> {
    let mut connections = Vec::new();
    for _ in 0..streams {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        connections.push(connector.connect("peer.shard.invalid".try_into()?, stream).await?);
    }
    let begun = Instant::now();
    let sends = connections.into_iter().map(|mut stream| {
        tokio::spawn(async move {
            let (chunk, bytes) = (vec![7; CHUNK_BYTES], COPY_BYTES / streams);
            stream.write_u64(bytes as u64).await?;
            for _ in 0..bytes / CHUNK_BYTES {
                stream.write_all(&chunk).await?;
            }
            stream.flush().await?;
            stream.read_u64().await
        })
    });
    for sent in sends.collect::<Vec<_>>() {
        assert_eq!(sent.await??, 0);
    }
    Ok(begun.elapsed())
}

async fn throughput() -> Outcome {
    let (server, client) = (Server::start()?, Node::start(config(2)).await?);
    let connector = TlsConnector::from(Arc::clone(&tls(2)?.client));
    let rate = |time: Duration| COPY_BYTES as f64 / 1e6 / time.as_secs_f64();
    for transport in BOTH {
        let session = client.connect(server.address(transport)).await?;
        for streams in [1, 8] {
            let before = session.traffic();
            send(&session, streams).await?;
            let after = session.traffic();
            let mebibytes = COPY_BYTES as f64 / 1_048_576.0;
            let extra = ((after.sent_bytes - before.sent_bytes) as f64 - COPY_BYTES as f64) / mebibytes;
            let back = (after.received_bytes - before.received_bytes) as f64 / mebibytes;
            let mut pairs = Vec::new();
            for _ in 0..PAIRS {
                // One connection beside one, and beside eight streams too: they share a session.
                let own = send(&session, streams).await?;
                let one = send_plain(server.plain, &connector, 1).await?;
                let same = send_plain(server.plain, &connector, streams).await?;
                pairs.push((own, one, same));
            }
            let median = |of: &dyn Fn(&(Duration, Duration, Duration)) -> f64| {
                let mut all: Vec<f64> = pairs.iter().map(of).collect();
                all.sort_by(f64::total_cmp);
                all[all.len() / 2]
            };
            say(&format!(
                "throughput/{transport:?}/{streams}: {:.0} MB/s; TLS over TCP, one connection {:.0} MB/s ({:.2}×), \
                 {streams} {:.0} MB/s ({:.2}×); {extra:.0} B more a MiB, {back:.0} B a MiB the other way",
                median(&|pair| rate(pair.0)),
                median(&|pair| rate(pair.1)),
                median(&|pair| rate(pair.0) / rate(pair.1)),
                median(&|pair| rate(pair.2)),
                median(&|pair| rate(pair.0) / rate(pair.2)),
            ));
        }
        session.close();
    }
    client.stop(Duration::from_secs(5)).await;
    Ok(())
}
