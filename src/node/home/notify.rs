//! Tells a service manager how things stand: a datagram, as systemd takes it (`sd_notify(3)`).

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The node serves.
pub(super) const READY: &str = "READY=1";
/// The node stops.
pub(super) const STOPPING: &str = "STOPPING=1";

/// Sends this to the socket that the service manager named. What it is not told is no reason to stop.
pub(super) fn tell(socket: Option<&OsStr>, state: &str) {
    let Some(name) = socket.filter(|name| !name.is_empty()) else { return };
    if let Err(error) = send(name, state) {
        tracing::warn!("telling the service manager: {error}");
    }
}

fn send(name: &OsStr, state: &str) -> io::Result<()> {
    let address = match name.as_bytes().split_first() {
        Some((b'@', abstract_name)) => in_no_folder(abstract_name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

/// A name that is no file: Linux has such sockets.
#[cfg(target_os = "linux")]
fn in_no_folder(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn in_no_folder(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_listens_is_told_and_nobody_is_no_failure() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("notify");
        tell(Some(path.as_os_str()), READY);
        tell(None, READY);
        tell(Some(OsStr::new("")), READY);
        let socket = UnixDatagram::bind(&path).expect("bound");
        tell(Some(path.as_os_str()), READY);
        let mut room = [0; 64];
        let length = socket.recv(&mut room).expect("told");
        assert_eq!(&room[..length], b"READY=1");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_socket_without_a_file_is_told_too() {
        let name = format!("shard-notify-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&in_no_folder(name.as_bytes()).expect("a name")).expect("bound");
        tell(Some(OsStr::new(&format!("@{name}"))), STOPPING);
        let mut room = [0; 64];
        let length = socket.recv(&mut room).expect("told");
        assert_eq!(&room[..length], b"STOPPING=1");
    }
}
