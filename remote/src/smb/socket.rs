//! Bytes of a connection, in frames. One system call sends a frame, and one receives many small
//! answers: the crate's own transport (0.39) sends a frame's length in a packet of its own, so that
//! the server wakes up twice for each request.

use async_trait::async_trait;
use futures_util::future::select_ok;
use smb2::transport::{ReceiveProgress, TransportReceive, TransportSend};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Mutex;

/// The length of a frame has three bytes.
const FRAME_BYTES_MAX: usize = (1 << 24) - 1;
/// Many answers about small files at once.
const RECEIVE_BYTES: usize = 64 << 10;

/// One connection; both directions are used at once.
pub(super) struct Socket {
    reader: Mutex<BufReader<OwnedReadHalf>>,
    writer: Mutex<OwnedWriteHalf>,
    /// Where an answer grows, the server is not silent.
    progress: Arc<ReceiveProgress>,
}

impl Socket {
    /// Whichever of the host's addresses answers first.
    pub(super) async fn connect(address: &str, within: Duration) -> io::Result<Socket> {
        let connecting = async {
            let addresses: Vec<_> = lookup_host(address).await?.collect();
            if addresses.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
            }
            let each = addresses.into_iter().map(|address| Box::pin(TcpStream::connect(address)));
            Ok(select_ok(each).await?.0)
        };
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "nobody answers");
        let stream = tokio::time::timeout(within, connecting).await.map_err(late)??;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        Ok(Socket {
            reader: Mutex::new(BufReader::with_capacity(RECEIVE_BYTES, reader)),
            writer: Mutex::new(writer),
            progress: Arc::new(ReceiveProgress::new()),
        })
    }
}

#[async_trait]
impl TransportSend for Socket {
    async fn send(&self, data: &[u8]) -> smb2::Result<()> {
        if data.len() > FRAME_BYTES_MAX {
            return Err(smb2::Error::invalid_data("a request is longer than a frame can be"));
        }
        let length = (data.len() as u32).to_be_bytes();
        let mut parts = [IoSlice::new(&length), IoSlice::new(data)];
        let mut left = &mut parts[..];
        let mut writer = self.writer.lock().await;
        while !left.is_empty() {
            match writer.write_vectored(left).await.map_err(smb2::Error::Io)? {
                0 => return Err(smb2::Error::Disconnected),
                sent => IoSlice::advance_slices(&mut left, sent),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl TransportReceive for Socket {
    async fn receive(&self) -> smb2::Result<Vec<u8>> {
        let mut reader = self.reader.lock().await;
        let mut length = [0; 4];
        reader.read_exact(&mut length).await.map_err(ended)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(smb2::Error::invalid_data("what the server sends is no frame"));
        }
        let mut frame = Vec::with_capacity(length);
        self.progress.begin_frame(length);
        while frame.len() < length {
            let left = (length - frame.len()) as u64;
            let read = (&mut *reader).take(left).read_buf(&mut frame).await;
            match read {
                Ok(0) => {
                    self.progress.end_frame();
                    return Err(smb2::Error::Disconnected);
                }
                Ok(bytes) => self.progress.record(bytes),
                Err(error) => {
                    self.progress.end_frame();
                    return Err(ended(error));
                }
            }
        }
        self.progress.end_frame();
        Ok(frame)
    }

    fn receive_progress(&self) -> Option<Arc<ReceiveProgress>> {
        Some(self.progress.clone())
    }
}

fn ended(error: io::Error) -> smb2::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => smb2::Error::Disconnected,
        _ => smb2::Error::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};

    /// The first side sends bytes as they are; the other one's frames, and how they end.
    async fn received(bytes: &'static [u8]) -> (Vec<Vec<u8>>, String) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let sender = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let mut asked = [0; 7];
            peer.read_exact(&mut asked).unwrap();
            peer.write_all(bytes).unwrap();
            asked
        });
        let socket = Socket::connect(&address, Duration::from_secs(5)).await.unwrap();
        socket.send(b"ask").await.unwrap();
        let mut frames = Vec::new();
        let end = loop {
            match socket.receive().await {
                Ok(frame) => frames.push(frame),
                Err(end) => break end.to_string(),
            }
        };
        assert_eq!(&sender.join().unwrap(), b"\0\0\0\x03ask");
        (frames, end)
    }

    #[tokio::test]
    async fn frames_come_as_they_were_sent_and_no_half_one_does() {
        let gone = smb2::Error::Disconnected.to_string();
        let (frames, end) = received(b"\0\0\0\x02ab\0\0\0\0\0\0\0\x03cde").await;
        assert_eq!((frames, end), (vec![b"ab".to_vec(), vec![], b"cde".to_vec()], gone.clone()));
        for cut in [&b"\0\0\0\x02ab\0\0\0\x03c"[..], b"\0\0\0\x02ab\0\0"] {
            assert_eq!(received(cut).await, (vec![b"ab".to_vec()], gone.clone()));
        }
        let (frames, end) = received(b"\x01\0\0\x02ab").await;
        assert!(frames.is_empty() && end.contains("no frame"), "{end}");
    }
}
