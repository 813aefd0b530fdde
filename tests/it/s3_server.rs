//! A real S3 server over a real socket, in the test process, that can go away and come back; and a wire that can fail.

use crate::scratch;
use async_trait::async_trait;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder as ConnectionBuilder;
use s3s::auth::SimpleAuth;
use s3s::dto::*;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};

/// The bucket every server begins with.
pub(crate) const BUCKET: &str = "shards";
/// The key id of the one account.
pub(crate) const KEY_ID: &str = "AKIDSHARDTESTS";
/// Its secret.
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// How the server ends a multipart upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Completion {
    Honest,
    /// Answers 200 with an error in the body, as S3 may.
    ErrorInside,
    /// Answers 200 and keeps only the first bytes.
    Short,
    /// Does the work and then answers that it failed.
    LostAnswer,
}

/// The server: a folder, a port that stays the same, and threads of its own, so that any test can use it.
pub(crate) struct S3Server {
    folder: tempfile::TempDir,
    address: SocketAddr,
    runtime: Option<Runtime>,
    accepting: Option<JoinHandle<()>>,
    service: S3Service,
    disk: Arc<Mutex<Notes>>,
}

/// What the server remembers beside its files.
#[derive(Debug)]
struct Notes {
    uploads: BTreeMap<String, String>,
    completion: Completion,
}

impl S3Server {
    /// Starts a server with one bucket and one account.
    pub(crate) fn start() -> Self {
        Self::start_for(KEY_ID, SECRET)
    }

    /// Starts a server that knows this account only.
    pub(crate) fn start_for(key_id: &str, secret: &str) -> Self {
        let folder = scratch::folder();
        let disk = Arc::new(Mutex::new(Notes { uploads: BTreeMap::new(), completion: Completion::Honest }));
        let files = FileSystem::new(folder.path()).expect("the folder is there");
        let root = folder.path().to_owned();
        let mut builder = S3ServiceBuilder::new(Disk { files, root, notes: Arc::clone(&disk) });
        builder.set_auth(SimpleAuth::from_single(key_id, secret));
        let service = builder.build();
        let mut threads = tokio::runtime::Builder::new_multi_thread();
        let runtime = threads.worker_threads(1).enable_all().build().expect("a runtime");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut server = Self { folder, address, runtime: Some(runtime), accepting: None, service, disk };
        server.create_bucket(BUCKET);
        server.start_again();
        server
    }

    /// Where it listens.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens, for a proxy.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The folder of a bucket, to look behind the server's back.
    pub(crate) fn bucket_folder(&self, bucket: &str) -> std::path::PathBuf {
        self.folder.path().join(bucket)
    }

    /// Makes a bucket.
    pub(crate) fn create_bucket(&self, bucket: &str) {
        std::fs::create_dir(self.bucket_folder(bucket)).expect("a new bucket");
    }

    /// From now on uploads end like this.
    pub(crate) fn complete(&self, completion: Completion) {
        self.disk.lock().expect("no holder panicked").completion = completion;
    }

    /// How many multipart uploads are neither completed nor aborted.
    pub(crate) fn unfinished_uploads(&self) -> usize {
        self.disk.lock().expect("no holder panicked").uploads.len()
    }

    /// Goes away: open connections end, new ones are refused.
    pub(crate) fn stop(&mut self) {
        let Some(accepting) = self.accepting.take() else { return };
        accepting.abort();
        while !accepting.is_finished() {
            std::thread::yield_now();
        }
    }

    /// Comes back on the same port, with what it had.
    pub(crate) fn start_again(&mut self) {
        let runtime = self.runtime.as_ref().expect("the server is not dropped");
        let listener = std::net::TcpListener::bind(self.address).expect("the port is free");
        listener.set_nonblocking(true).expect("a socket");
        self.address = listener.local_addr().expect("a socket");
        let _inside = runtime.enter();
        let listener = TcpListener::from_std(listener).expect("a socket");
        self.accepting = Some(runtime.spawn(serve(listener, self.service.clone())));
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(listener: TcpListener, service: S3Service) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let connection = ConnectionBuilder::new(TokioExecutor::new());
        let connection = connection.serve_connection(TokioIo::new(socket), service.clone()).into_owned();
        connections.spawn(async move {
            let _client_may_leave = connection.await;
        });
    }
}

/// `s3s-fs`, which cannot list multipart uploads, with a list of them and with ways to end them badly.
#[derive(Debug)]
struct Disk {
    files: FileSystem,
    root: std::path::PathBuf,
    notes: Arc<Mutex<Notes>>,
}

#[async_trait]
impl S3 for Disk {
    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.files.get_object(request).await
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        self.files.head_object(request).await
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        self.files.put_object(request).await
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.files.delete_object(request).await
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.files.list_objects_v2(request).await
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        self.files.upload_part(request).await
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let key = request.input.key.clone();
        let response = self.files.create_multipart_upload(request).await?;
        let id = response.output.upload_id.clone().ok_or_else(|| s3_error!(InternalError))?;
        self.notes().uploads.insert(id, key);
        Ok(response)
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let id = request.input.upload_id.clone();
        let response = self.files.abort_multipart_upload(request).await?;
        self.notes().uploads.remove(&id);
        Ok(response)
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let prefix = request.input.prefix.unwrap_or_default();
        let notes = self.notes();
        let uploads = notes.uploads.iter().filter(|(_, key)| key.starts_with(&prefix));
        let uploads = uploads.map(|(id, key)| MultipartUpload {
            key: Some(key.clone()),
            upload_id: Some(id.clone()),
            ..MultipartUpload::default()
        });
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(request.input.bucket),
            is_truncated: Some(false),
            uploads: Some(uploads.collect()),
            ..ListMultipartUploadsOutput::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let completion = self.notes().completion;
        let (id, bucket, key) =
            (request.input.upload_id.clone(), request.input.bucket.clone(), request.input.key.clone());
        if completion == Completion::ErrorInside {
            return Ok(S3Response::new(CompleteMultipartUploadOutput {
                future: Some(Box::pin(async { Err(s3_error!(InternalError, "it did not work")) })),
                ..CompleteMultipartUploadOutput::default()
            }));
        }
        let response = self.files.complete_multipart_upload(request).await?;
        self.notes().uploads.remove(&id);
        match completion {
            Completion::LostAnswer => Err(s3_error!(InternalError, "the answer was lost")),
            Completion::Short => {
                shorten(&self.root.join(bucket).join(key));
                Ok(response)
            }
            _ => Ok(response),
        }
    }
}

impl Disk {
    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().expect("no holder panicked")
    }
}

fn shorten(path: &Path) {
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("the object is there");
    file.set_len(1000).expect("it can be cut");
}

/// What a wire does to what the server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Pass,
    /// Holds every chunk back for this long.
    Delay(Duration),
    /// Ends each connection after this many bytes of answers.
    CutAfter(usize),
    /// Takes what is sent and answers nothing.
    Swallow,
}

/// A proxy on the loopback whose wire can fail.
pub(crate) struct FaultyWire {
    address: SocketAddr,
    fault: Arc<Mutex<Fault>>,
    accepting: JoinHandle<()>,
}

impl FaultyWire {
    /// In front of this server; runs on the test's runtime.
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("a socket");
        let fault = Arc::new(Mutex::new(Fault::Pass));
        let shared = Arc::clone(&fault);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(carry(client, server, Arc::clone(&shared)));
            }
        });
        Self { address, fault, accepting }
    }

    /// Where it listens.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on the wire does this.
    pub(crate) fn set(&self, fault: Fault) {
        *self.fault.lock().expect("no holder panicked") = fault;
    }
}

impl Drop for FaultyWire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(client: TcpStream, server: SocketAddr, fault: Arc<Mutex<Fault>>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((mut client_in, mut client_out), (mut server_in, mut server_out)) = (client.into_split(), server.into_split());
    let questions = tokio::io::copy(&mut client_in, &mut server_out);
    let answers = async move {
        let mut chunk = vec![0; 16 * 1024];
        let mut answered_bytes = 0;
        while let Ok(count @ 1..) = server_in.read(&mut chunk).await {
            let now = *fault.lock().expect("no holder panicked");
            let mut passed = &chunk[..count];
            match now {
                Fault::Pass => {}
                Fault::Delay(pause) => tokio::time::sleep(pause).await,
                Fault::CutAfter(limit) => passed = &passed[..passed.len().min(limit.saturating_sub(answered_bytes))],
                Fault::Swallow => continue,
            }
            answered_bytes += passed.len();
            if client_out.write_all(passed).await.is_err() || passed.len() < count {
                return;
            }
        }
    };
    tokio::select! { _ = questions => {}, () = answers => {} }
}

/// A server that gives every request the same answer, byte for byte, and hangs up. Runs on the test's runtime.
pub(crate) struct Parrot {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Parrot {
    /// Answers with this.
    pub(crate) async fn start(answer: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("a socket");
        let answer: Arc<[u8]> = answer.into().into();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(repeat(client, Arc::clone(&answer)));
            }
        });
        Self { address, accepting }
    }

    /// Where it listens.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Parrot {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn repeat(mut client: TcpStream, answer: Arc<[u8]>) {
    let mut seen = Vec::new();
    while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
        match client.read_buf(&mut seen).await {
            Ok(1..) => {}
            _ => return,
        }
    }
    if client.write_all(&answer).await.is_ok() {
        let _client_may_leave = client.shutdown().await;
    }
}
