//! A long line on the loopback: every byte arrives so much later, and only so many a second pass
//! in each direction, all connections together. Connecting itself is not delayed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

/// One read of a socket.
const CHUNK: usize = 64 << 10;
/// Chunks of one connection on their way: more than any line of the benchmark holds.
const CHUNKS: usize = 512;
/// Bytes that wait for their turn take no longer: the queue of a router.
const QUEUE: Duration = Duration::from_millis(20);

/// One direction of the line.
struct Direction {
    delay: Duration,
    bytes_per_second: f64,
    /// When the last byte that was sent has left.
    free: Mutex<Instant>,
}

impl Direction {
    fn new(delay: Duration, bytes_per_second: f64) -> Arc<Direction> {
        Arc::new(Direction { delay, bytes_per_second, free: Mutex::new(Instant::now()) })
    }

    /// When so many bytes arrive that are sent now.
    fn send(&self, bytes: usize) -> Instant {
        let mut free = self.free.lock().unwrap();
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
        *free = (*free).max(Instant::now()) + takes;
        *free + self.delay
    }
}

/// A port that leads to `server` over a line of this round trip. It stays for the process's life.
pub fn open(server: SocketAddr, round_trip: Duration, bytes_per_second: f64) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let [up, down] = [(); 2].map(|()| Direction::new(round_trip / 2, bytes_per_second));
    spawn(move || {
        for near in listener.incoming() {
            let (Ok(near), Ok(far)) = (near, TcpStream::connect(server)) else { continue };
            [&near, &far].iter().for_each(|socket| socket.set_nodelay(true).unwrap());
            carry(near.try_clone().unwrap(), far.try_clone().unwrap(), up.clone());
            carry(far, near, down.clone());
        }
    });
    address
}

/// Two threads for one direction of a connection: one takes bytes in, one hands them out in time.
fn carry(mut from: TcpStream, to: TcpStream, direction: Arc<Direction>) {
    let (sender, receiver) = sync_channel(CHUNKS);
    spawn(move || deliver(to, &receiver));
    spawn(move || {
        let mut chunk = vec![0; CHUNK];
        while let Ok(bytes @ 1..) = from.read(&mut chunk) {
            let arrives = direction.send(bytes);
            if sender.send((arrives, chunk[..bytes].to_vec())).is_err() {
                break;
            }
            sleep((arrives - direction.delay - QUEUE).saturating_duration_since(Instant::now()));
        }
    });
}

fn deliver(mut to: TcpStream, chunks: &Receiver<(Instant, Vec<u8>)>) {
    for (arrives, chunk) in chunks {
        sleep(arrives.saturating_duration_since(Instant::now()));
        if to.write_all(&chunk).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
