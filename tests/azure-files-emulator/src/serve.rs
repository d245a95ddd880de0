//! Sockets: accepts connections, plain or TLS, and carries answers over them, with the faults
//! that befall an answer on its way.

use crate::call::Reply;
use crate::error::Error;
use crate::faults::Fault;
use crate::server::{Outcome, Server};
use crate::time::Ticks;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A little more than the largest range, so that one that is too large is told so.
const BODY_BYTES_MAX: usize = 8 << 20;
/// How often a body that is to be cut lets the connection send first what it has.
const FLUSHES_BEFORE_CUT: u8 = 8;

/// Accepts connections for ever.
pub async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, server: Arc<Server>) {
    loop {
        // A connection that could not be accepted is its client's to complain about.
        let Ok((stream, peer)) = listener.accept().await else { continue };
        tokio::spawn(connection(stream, peer, tls.clone(), Arc::clone(&server)));
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    server: Arc<Server>,
) {
    server.add_connection();
    // Small answers would wait for the client's acknowledgement otherwise.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let secure = tls.is_some();
    let service =
        service_fn(move |request| answer(request, secure, peer.ip(), Arc::clone(&server)));
    let http = http1::Builder::new();
    // How a connection ends is the client's affair, or a fault's.
    let _ = match tls {
        None => http.serve_connection(TokioIo::new(stream), service).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => http.serve_connection(TokioIo::new(stream), service).await,
            Err(_) => return,
        },
    };
}

async fn answer(
    request: Request<Incoming>,
    secure: bool,
    peer: IpAddr,
    server: Arc<Server>,
) -> io::Result<Response<Parts>> {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        let error = Error::new("RequestBodyTooLarge");
        let reply = Reply::error(&error, "", Ticks::default()).with("Connection", "close");
        return response(reply, None);
    };
    let outcome = server.answer(&parts, body.to_bytes(), secure, peer).await;
    let Outcome { reply: Some(mut reply), fault } = outcome else {
        return Err(io::Error::other("the connection ends here on request"));
    };
    if parts.method == hyper::Method::HEAD {
        reply.length = Some(reply.body_bytes());
        reply.body = Vec::new();
    }
    match fault {
        Some(Fault::CutBody(_)) if reply.body.is_empty() => {
            Err(io::Error::other("there is nothing to cut but the answer"))
        }
        Some(Fault::Stall(_)) if reply.body.is_empty() => std::future::pending().await,
        fault => response(reply, fault),
    }
}

fn response(reply: Reply, fault: Option<Fault>) -> io::Result<Response<Parts>> {
    let length = reply.body_bytes();
    let mut response = Response::builder().status(reply.status);
    if reply.status != 204 {
        response = response.header("Content-Length", length);
    }
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    let end = match fault {
        Some(Fault::CutBody(at)) => End::Cut(at.min(length.saturating_sub(1)), FLUSHES_BEFORE_CUT),
        Some(Fault::Stall(at)) => End::Stall(at),
        _ => End::Whole,
    };
    let body = Parts { parts: reply.body.into(), left: length, sent: 0, end };
    response.body(body).map_err(io::Error::other)
}

enum End {
    Whole,
    /// After so many bytes; so many flushes are left.
    Cut(u64, u8),
    /// After so many bytes.
    Stall(u64),
}

/// A body in parts, perhaps with an end that it should not have.
struct Parts {
    parts: VecDeque<Bytes>,
    left: u64,
    sent: u64,
    end: End,
}

impl Body for Parts {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let sent = self.sent;
        let room = match &mut self.end {
            End::Whole => u64::MAX,
            End::Stall(at) if sent >= *at => return Poll::Pending,
            End::Cut(at, flushes) if sent >= *at => {
                if *flushes == 0 {
                    return Poll::Ready(Some(Err(io::Error::other("the body is cut here"))));
                }
                // An error now would take along what was given but not yet sent.
                *flushes -= 1;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            End::Stall(at) | End::Cut(at, _) => *at - sent,
        };
        let Some(mut part) = self.parts.pop_front() else { return Poll::Ready(None) };
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        if part.len() > room {
            let rest = part.split_off(room);
            self.parts.push_front(rest);
        }
        self.sent += part.len() as u64;
        self.left -= part.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }
}
