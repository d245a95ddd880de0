//! Talking to the daemon: the words of the control channel, and its server.
//!
//! One connection is one request: a line of JSON, answered by lines of JSON of which the last
//! one is final. While the answer takes time, progress or a sign of life comes every few seconds,
//! so that a client can tell a slow daemon from a dead one. A client that goes away takes its
//! question back: nothing that was begun is undone, a wait is ended.

use crate::registry::Note;
use crate::system::channel::{self, Listener, Stream};
use anyhow::Result;
use covefs_cache::{
    CheckReport, ConflictRecord, ConnectionStatus, Error, ErrorKind, Progress, Status, Vfs,
};
use covefs_remote::RemotePath;
use covefs_remote::smb::{SmbRemote, Spoken};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

/// A request is a line with a path in it; longer than this is nonsense.
const REQUEST_BYTES_MAX: u64 = 256 << 10;
/// Clients at once; more wait. Each may hold a `sync --wait` for hours.
const CLIENTS_MAX: usize = 64;
/// Between two signs of life.
pub(crate) const BEAT: Duration = Duration::from_secs(2);
/// Between two lines of progress: no faster than people read.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// What a client asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub(crate) enum Request {
    Status,
    Sync { wait: bool },
    Conflicts,
    Dismiss { path: RemotePath },
    Hydrate { path: RemotePath },
    Evict { path: RemotePath },
    Pin { path: RemotePath },
    Unpin { path: RemotePath },
    Why { path: RemotePath },
    Unlock { path: RemotePath },
    Resize { limit_bytes: u64 },
    Scrub,
    Unmount,
}

/// One line of an answer; all but the first two are final.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub(crate) enum Answer {
    Progress(Progress),
    Alive,
    Status(Box<Status>),
    Conflicts(Vec<ConflictRecord>),
    Lines(Vec<String>),
    Count(u64),
    Checked(CheckReport),
    Done,
    /// `offline`: the share could not be reached.
    Failed {
        message: String,
        offline: bool,
    },
}

/// What the server needs to answer.
pub(crate) struct Server {
    /// The drive.
    pub vfs: Arc<Vfs>,
    /// Its cache directory.
    pub cache_dir: PathBuf,
    /// Its log, as `status` shows it.
    pub log: PathBuf,
    /// The share, where it is one of an SMB server.
    pub smb: Option<Arc<SmbRemote>>,
    /// Told when the mount is to end.
    pub end: Arc<Notify>,
}

fn told(spoken: Spoken) -> ConnectionStatus {
    let Spoken { dialect, signing, cipher } = spoken;
    let cipher = cipher.map(str::to_owned);
    ConnectionStatus { protocol: dialect, signing: signing.to_owned(), cipher }
}

/// Answers clients until it is dropped; all of them end with it.
pub(crate) async fn serve(mut listener: Listener, server: Arc<Server>) {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    let mut clients = JoinSet::new();
    loop {
        while clients.try_join_next().is_some() {}
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok(stream) => {
                let server = server.clone();
                clients.spawn(async move {
                    let _place = place;
                    if let Err(error) = server.answer_client(stream).await {
                        tracing::debug!(%error, "control client");
                    }
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: others will be closed.
                tracing::warn!(%error, "accept a control client");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

impl Server {
    async fn answer_client(&self, stream: Stream) -> Result<()> {
        channel::check_caller(&stream)?;
        let (read, mut write) = tokio::io::split(stream);
        let mut read = BufReader::new(read.take(REQUEST_BYTES_MAX));
        let mut line = String::new();
        read.read_line(&mut line).await?;
        let request: Request = match serde_json::from_str(&line) {
            Ok(request) => request,
            Err(error) => {
                let message = format!("the running covefs does not know this request ({error})");
                return say(&mut write, &Answer::Failed { message, offline: false }).await;
            }
        };
        tracing::debug!(?request, "control");
        self.answer(request, read.into_inner().into_inner(), write).await
    }

    async fn answer(
        &self,
        request: Request,
        mut read: ReadHalf<Stream>,
        mut write: WriteHalf<Stream>,
    ) -> Result<()> {
        let (sender, mut progress) = watch::channel(None);
        let report = move |now: Progress| {
            sender.send_replace(Some(now));
        };
        let work = self.work(request, &report);
        tokio::pin!(work);
        let mut beat = tokio::time::interval(BEAT);
        let mut byte = [0u8; 1];
        loop {
            tokio::select! {
                answer = &mut work => return say(&mut write, &answer).await,
                _ = beat.tick() => say(&mut write, &Answer::Alive).await?,
                changed = progress.changed() => {
                    let now = *progress.borrow_and_update();
                    if let (Ok(()), Some(now)) = (changed, now) {
                        say(&mut write, &Answer::Progress(now)).await?;
                    }
                    tokio::select! {
                        answer = &mut work => return say(&mut write, &answer).await,
                        () = tokio::time::sleep(PROGRESS_EVERY) => {}
                    }
                }
                // The client says nothing more: this is its end.
                _ = read.read(&mut byte) => return Ok(()),
            }
        }
    }

    async fn work(&self, request: Request, report: &(dyn Fn(Progress) + Send + Sync)) -> Answer {
        let vfs = &self.vfs;
        let answered = match &request {
            Request::Status => {
                let mut status = vfs.status();
                status.log = self.log.display().to_string();
                status.connection = self.smb.as_ref().and_then(|smb| smb.spoken()).map(told);
                Ok(Answer::Status(Box::new(status)))
            }
            Request::Sync { wait: false } => {
                vfs.sync_now();
                Ok(Answer::Done)
            }
            Request::Sync { wait: true } => {
                vfs.sync_now();
                match vfs.sync_wait(report).await {
                    Err(error) if error.kind == ErrorKind::Refused => {
                        let message = format!(
                            "not everything is uploaded: {}; it is kept here and tried again",
                            in_words(&error)
                        );
                        return Answer::Failed { message, offline: true };
                    }
                    waited => waited.map(|()| Answer::Done),
                }
            }
            Request::Conflicts => Ok(Answer::Conflicts(vfs.conflicts())),
            Request::Dismiss { path } => vfs.dismiss(path).map(|count| Answer::Count(count as u64)),
            Request::Hydrate { path } => vfs.hydrate(path, report).await.map(|()| Answer::Done),
            Request::Evict { path } => vfs.evict(path).await.map(Answer::Count),
            Request::Pin { path } => vfs.pin(path).await.map(|()| Answer::Done),
            Request::Unpin { path } => vfs.unpin(path).await.map(|()| Answer::Done),
            Request::Why { path } => vfs.why(path).await.map(Answer::Lines),
            Request::Scrub => vfs.scrub(report).await.map(Answer::Checked),
            Request::Unmount => {
                self.end.notify_one();
                Ok(Answer::Done)
            }
            Request::Unlock { path } => vfs.unlock(path).await.map(|()| Answer::Done),
            Request::Resize { limit_bytes } => {
                let resized = vfs.resize(*limit_bytes).await;
                resized.map(|()| self.keep_limit(*limit_bytes))
            }
        };
        answered.unwrap_or_else(|error| {
            tracing::info!(%error, ?request, "control request failed");
            let offline = matches!(error.kind, ErrorKind::Offline | ErrorKind::Timeout);
            Answer::Failed { message: in_words(&error), offline }
        })
    }

    /// The next mount without --cache-size keeps the limit.
    fn keep_limit(&self, limit_bytes: u64) -> Answer {
        let note = Note::read(&self.cache_dir).map(|note| Note { limit_bytes, ..note });
        if let Some(Err(error)) = note.map(|note| note.write(&self.cache_dir)) {
            tracing::warn!(%error, "keep the new limit");
        }
        Answer::Done
    }
}

/// The error for people: what is wrong, and what to do where there is something.
fn in_words(error: &Error) -> String {
    match error.kind {
        ErrorKind::NotFound => "no such file or directory".into(),
        ErrorKind::Offline => "the share cannot be reached; try again when it answers".into(),
        ErrorKind::Timeout => "the share did not answer in time; try again".into(),
        ErrorKind::NoSpace => {
            "no room in the cache: its limit or its disk is too small for this; `covefs status` \
             shows them, `covefs resize` changes the limit"
                .into()
        }
        ErrorKind::Refused => error.source.as_ref().map(ToString::to_string).unwrap_or_default(),
        ErrorKind::PermissionDenied => "the share refuses it: permission denied".into(),
        _ => error.to_string(),
    }
}

async fn say(write: &mut WriteHalf<Stream>, answer: &Answer) -> Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    write.write_all(&line).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_socket() {
        let request = Request::Hydrate { path: RemotePath::parse(b"a/\xff b") };
        let line = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
        assert_eq!(serde_json::to_string(&Request::Status).unwrap(), "\"status\"");
        let line = serde_json::to_string(&Answer::Failed { message: "no".into(), offline: true });
        assert_eq!(line.unwrap(), r#"{"failed":{"message":"no","offline":true}}"#);
    }

    #[test]
    fn errors_say_what_to_do() {
        let text = in_words(&Error::new(ErrorKind::NoSpace, "reserve"));
        assert!(text.contains("covefs status"), "{text}");
    }
}
