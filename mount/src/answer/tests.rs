//! Tests of answering: with a stand-in for the filesystem and replies that are written down.

use super::*;
use covefs_cache::{ContentId, ErrorKind, Ino};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Meets every need at once but those that never are; reads 7s.
#[derive(Default)]
struct Stand {
    waited: Mutex<Vec<Need>>,
}

const NEVER: Need = Need::Uploaded(Ino(1));
const BAD: Need = Need::Node(Ino(1));
const LISTING: Need = Need::Listing(Ino::ROOT);
const BYTES: Need = Need::Bytes(ContentId(1), 0, 1);

impl Drive for Stand {
    async fn wait(&self, _: Asked, need: Need) -> Result<()> {
        self.waited.lock().unwrap().push(need.clone());
        match need {
            NEVER => std::future::pending().await,
            BAD => Err(Error::new(ErrorKind::Offline, "wait")),
            Need::Space(_) => panic!("a bug while waiting"),
            _ => Ok(()),
        }
    }

    /// Handle 1 is hot, 2 cold, 3 cold once the listing is there, 4 needs a thread only.
    fn read(
        &self,
        asked: Asked,
        fh: Fh,
        range: (u64, usize),
        out: &mut Vec<u8>,
    ) -> Result<Step<()>> {
        match (fh.0, asked.may_block) {
            (1, _) | (4, true) => {
                out.clear();
                out.resize(range.1, 7);
                Ok(Step::Done(()))
            }
            (2, _) | (3, true) => Ok(Step::Wait(BYTES)),
            (3, false) => Ok(Step::Wait(LISTING)),
            (4, false) => Ok(Step::Wait(Need::Thread)),
            _ => panic!("a bug while reading"),
        }
    }

    async fn read_cold(&self, _: Asked, _: Fh, range: (u64, usize)) -> Result<Vec<u8>> {
        Ok(vec![8; range.1])
    }
}

/// A reply: what was answered, or the errno; EIO when it is dropped, as fuser does.
struct Reply(Option<Sender<std::result::Result<Vec<u8>, i32>>>);

impl Reply {
    fn new() -> (Reply, Receiver<std::result::Result<Vec<u8>, i32>>) {
        let (sender, receiver) = channel();
        (Reply(Some(sender)), receiver)
    }
}

impl Refuse for Reply {
    fn refuse(mut self, errno: Errno) {
        self.0.take().unwrap().send(Err(errno.code())).unwrap();
    }
}

impl Carry for Reply {
    fn carry(mut self, bytes: &[u8]) {
        self.0.take().unwrap().send(Ok(bytes.to_vec())).unwrap();
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(Err(Errno::EIO.code()));
        }
    }
}

fn answerer() -> Answerer<Stand> {
    Answerer::new(Arc::new(Stand::default()), Handle::current())
}

fn eio() -> std::result::Result<Vec<u8>, i32> {
    Err(Errno::EIO.code())
}

async fn answered<T: Send + 'static>(answers: Receiver<T>) -> T {
    let one = tokio::task::spawn_blocking(move || {
        let first = answers.recv().unwrap();
        assert!(answers.recv().is_err(), "answered twice");
        first
    });
    one.await.unwrap()
}

/// Runs an operation that says these, one after the other; what came out, and what was waited for.
async fn check(
    steps: Vec<Result<Step<u8>>>,
    expected: std::result::Result<Vec<u8>, i32>,
    waited: &[Need],
) -> Counts {
    let answerer = answerer();
    let (reply, answers) = Reply::new();
    let (mut steps, mut first) = (steps.into_iter(), true);
    let op = move |_: &Stand, asked: Asked, _: &mut Reply| {
        assert_eq!(asked.may_block, !first, "only repeats may block");
        first = false;
        steps.next().expect("as many steps as the operation has")
    };
    let finish = |reply: Reply, byte: u8| reply.carry(&[byte]);
    answerer.run(Ask { call: Call::new("test", 1, 1), reply, op, finish });
    assert_eq!(answered(answers).await, expected);
    assert_eq!(*answerer.shared.drive.waited.lock().unwrap(), waited);
    let drained = answerer.clone();
    let drained = tokio::task::spawn_blocking(move || drained.drain(Duration::from_secs(9)));
    assert!(drained.await.unwrap());
    answerer.counts()
}

#[tokio::test]
async fn what_is_here_is_answered_here() {
    let counts = check(vec![Ok(Step::Done(5))], Ok(vec![5]), &[]).await;
    assert_eq!((counts.answered, counts.failed, counts.waited), (1, 0, 0));
}

// rule K1
#[tokio::test]
async fn what_has_to_wait_is_asked_again_from_a_task() {
    let steps = vec![Ok(Step::Wait(LISTING)), Ok(Step::Wait(BYTES)), Ok(Step::Done(6))];
    let counts = check(steps, Ok(vec![6]), &[LISTING, BYTES]).await;
    assert_eq!((counts.answered, counts.failed, counts.waiting), (1, 0, 0));
    let steps = vec![Ok(Step::Wait(Need::Thread)), Ok(Step::Done(6))];
    check(steps, Ok(vec![6]), &[]).await;
}

#[tokio::test]
async fn errors_are_answered_wherever_they_come_up() {
    let missing = || Err(Error::new(ErrorKind::NotFound, "look up"));
    let enoent = || Err(Errno::ENOENT.code());
    let counts = check(vec![missing()], enoent(), &[]).await;
    assert_eq!((counts.answered, counts.failed, counts.panicked), (1, 1, 0));
    check(vec![Ok(Step::Wait(LISTING)), missing()], enoent(), &[LISTING]).await;
    check(vec![Ok(Step::Wait(BAD))], eio(), &[BAD]).await;
}

// rule K3
#[tokio::test(start_paused = true)]
async fn no_call_hangs() {
    let started = tokio::time::Instant::now();
    let answerer = answerer();
    let (reply, answers) = Reply::new();
    let op = |_: &Stand, _: Asked, _: &mut Reply| Ok(Step::<u8>::Wait(NEVER));
    let finish = |reply: Reply, byte: u8| reply.carry(&[byte]);
    answerer.run(Ask { call: Call::new("test", 1, 1), reply, op, finish });
    while answerer.counts().answered == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(answers.recv().unwrap(), eio());
    assert!(started.elapsed() >= WAIT_MAX && started.elapsed() < 2 * WAIT_MAX);
}

/// An operation that asks for a thread on a thread would go round for ever.
#[tokio::test]
async fn a_thread_is_given_once() {
    let thread = || Ok(Step::Wait(Need::Thread));
    check(vec![thread(), thread()], eio(), &[]).await;
}

#[tokio::test]
async fn a_panic_is_an_io_error_and_the_drive_lives_on() {
    let answerer = answerer();
    let bug = |at: u8| {
        let (reply, answers) = Reply::new();
        let mut times = 0;
        let op = move |_: &Stand, _: Asked, _: &mut Reply| {
            times += 1;
            match (at, times) {
                (1, 1) | (2, 2) => panic!("a bug in the operation"),
                (2, 1) => Ok(Step::Wait(LISTING)),
                (3, _) => Ok(Step::Wait(Need::Space(1))),
                _ => Ok(Step::Done(9)),
            }
        };
        let finish = move |reply: Reply, byte: u8| match at {
            4 => panic!("a bug in the answer"),
            _ => reply.carry(&[byte]),
        };
        answerer.run(Ask { call: Call::new("test", 1, 1), reply, op, finish });
        answers
    };
    for at in 1..=4 {
        assert_eq!(answered(bug(at)).await, eio(), "{at}");
    }
    assert_eq!(answered(bug(5)).await, Ok(vec![9]));
    let counts = answerer.counts();
    assert_eq!((counts.answered, counts.failed, counts.panicked), (5, 4, 4));
    answerer.tell(Call::new("release", 1, 1), |_| panic!("a bug in what has no answer"));
}

#[tokio::test]
async fn reads_are_answered_hot_and_cold() {
    let answerer = answerer();
    let read = |fh| {
        let (reply, answers) = Reply::new();
        answerer.read(Call::new("read", 1, 1), Fh(fh), (0, 3), reply);
        answers
    };
    assert_eq!(answered(read(1)).await, Ok(vec![7; 3]));
    assert_eq!(answerer.counts().waited, 0);
    assert_eq!(answered(read(2)).await, Ok(vec![8; 3]));
    assert_eq!(answered(read(3)).await, Ok(vec![8; 3]));
    assert_eq!(answered(read(4)).await, Ok(vec![7; 3]));
    assert_eq!(answered(read(5)).await, eio());
    // What is fetched is not waited for besides.
    assert_eq!(*answerer.shared.drive.waited.lock().unwrap(), [LISTING]);
}

#[tokio::test]
async fn writes_that_wait_keep_their_bytes() {
    let answerer = answerer();
    for wait in [false, true] {
        let (reply, answers) = Reply::new();
        let mut buffer = *b"bytes";
        let op = move |_: &Stand, asked: Asked, data: &[u8]| {
            assert_eq!(data, b"bytes");
            let again = asked.may_block || !wait;
            Ok(if again { Step::Done(data.len()) } else { Step::Wait(LISTING) })
        };
        let finish = |reply: Reply, written: usize| reply.carry(&[written as u8]);
        answerer.write(Ask { call: Call::new("write", 1, 1), reply, op, finish }, &buffer);
        // The kernel's buffer is used for the next request at once.
        buffer.fill(0);
        assert_eq!(answered(answers).await, Ok(vec![5]));
    }
}
