//! From a request to its answer: who asks, what for, what goes wrong on request, what is done.

use crate::api::{self, Context};
use crate::auth::{self, Account, Target};
use crate::call::{Call, Reply};
use crate::config::Config;
use crate::control;
use crate::crypto;
use crate::entra;
use crate::error::{Error, Result};
use crate::faults::{Fault, Faults};
use crate::operation::Operation;
use crate::owner::Owner;
use crate::persist::{Disk, Image};
use crate::store::Store;
use crate::time::Clock;
use bytes::Bytes;
use hyper::http::request::Parts;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The log keeps this many of the newest requests: a test looks back over one scene, not a day.
const LOG_REQUESTS_MAX: usize = 10_000;

/// A request that was answered (or whose answer was lost).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Which call.
    pub operation: Operation,
    /// From the share on, decoded.
    pub path: String,
    /// The answer's status; 0 if there was to be none.
    pub status: u16,
    /// Bytes of the request's body.
    pub sent_bytes: u64,
    /// Bytes of the answer's body, before any of it was cut.
    pub answer_bytes: u64,
}

#[derive(Default)]
struct Journal {
    counts: BTreeMap<Operation, u64>,
    newest: VecDeque<Logged>,
}

/// What the owner wants done when a call comes.
struct Hook {
    operation: Operation,
    path: String,
    after: bool,
    act: Act,
}

/// Done once.
pub type Act = Box<dyn FnOnce(&Owner) + Send>;

/// An account and everything about it.
pub struct Server {
    /// Name and key.
    pub account: Account,
    /// How it behaves.
    pub config: Config,
    /// Its time.
    pub clock: Clock,
    /// What goes wrong.
    pub faults: Faults,
    store: Mutex<Store>,
    disk: Option<Disk>,
    /// Counts requests that may have changed something.
    changes: AtomicU64,
    journal: Mutex<Journal>,
    hooks: Mutex<Vec<Hook>>,
    connections: AtomicU64,
}

/// An answer, and what befalls it on its way.
pub struct Outcome {
    /// None if the connection is to end without one.
    pub reply: Option<Reply>,
    /// What befalls the answer.
    pub fault: Option<Fault>,
}

impl Server {
    /// A server of the account; what an earlier run left is read from the disk.
    pub fn new(config: Config) -> std::io::Result<Server> {
        let invalid = || std::io::Error::other("the account key is not base64");
        let key = crypto::from_base64(&config.key).ok_or_else(invalid)?;
        let account = Account::new(&config.account, key);
        let clock = Clock::default();
        let disk = config.root.as_deref().map(Disk::open).transpose()?;
        let store = disk.as_ref().map(|disk| disk.load(&clock)).transpose()?.unwrap_or_default();
        let (store, faults, journal) = (Mutex::new(store), Faults::default(), Mutex::default());
        let (changes, connections) = (AtomicU64::new(0), AtomicU64::new(0));
        let hooks = Mutex::new(Vec::new());
        Ok(Server {
            account,
            config,
            clock,
            faults,
            store,
            disk,
            changes,
            journal,
            hooks,
            connections,
        })
    }

    /// The account's content. Whoever holds it changes it in one step.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        // A handler that panicked left no half of a change that matters to a test server.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often each call was asked for.
    pub fn counts(&self) -> BTreeMap<Operation, u64> {
        self.journal().counts.clone()
    }

    /// The newest requests, oldest first.
    pub fn log(&self) -> Vec<Logged> {
        self.journal().newest.iter().cloned().collect()
    }

    /// Forgets counts and log.
    pub fn reset_counts(&self) {
        *self.journal() = Journal::default();
    }

    /// Writes to the disk what changed, if there is one to write to.
    pub fn save(&self) -> std::io::Result<()> {
        let Some(disk) = &self.disk else { return Ok(()) };
        let image = Image::of(&self.store(), &self.clock)?;
        disk.save(&image)
    }

    /// Whether there is a directory to save to.
    pub fn is_kept(&self) -> bool {
        self.disk.is_some()
    }

    /// Counts requests that may have changed something.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Counts a connection.
    pub fn add_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Has `act` done before or after the next such call.
    pub fn add_hook(&self, operation: Operation, path: &str, after: bool, act: Act) {
        let hook = Hook { operation, path: path.to_owned(), after, act };
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner).push(hook);
    }

    /// Does what is to be done now. Nothing is locked meanwhile: it may do anything.
    fn run_hooks(self: &Arc<Self>, operation: Operation, path: &str, after: bool) {
        let due = |hook: &mut Hook| {
            hook.operation == operation && hook.after == after && path.contains(&hook.path)
        };
        let hooks: Vec<Hook> = {
            let mut hooks = self.hooks.lock().unwrap_or_else(PoisonError::into_inner);
            hooks.extract_if(.., due).collect()
        };
        let owner = Owner::of(Arc::clone(self));
        hooks.into_iter().for_each(|hook| (hook.act)(&owner));
    }

    /// Answers a request. A fault that delays is waited for here.
    pub async fn answer(
        self: &Arc<Self>,
        parts: &Parts,
        body: Bytes,
        secure: bool,
        peer: IpAddr,
    ) -> Outcome {
        let whole = |reply| Outcome { reply: Some(reply), fault: None };
        let call = match Call::new(parts, body, secure, peer) {
            Ok(call) => call,
            Err(error) => return whole(self.finish(Err(error), None)),
        };
        if let Some(reply) = control::answer(self, &call).or_else(|| entra::answer(&call)) {
            return whole(reply);
        }
        let operation = match self.operation(&call) {
            Ok(operation) => operation,
            Err(error) => return whole(self.finish(Err(error), Some(&call))),
        };
        let path = call.path.get(1..).unwrap_or_default().join("/");
        let fault = self.faults.choose(operation, &path);
        let reply = match &fault {
            Some(Fault::Refuse) => None,
            Some(Fault::Answer { status, code, retry_after }) => {
                let reply = self.finish(Err(Error::new("ServerBusy")), Some(&call));
                Some(Reply {
                    status: *status,
                    ..renamed(reply, code, retry_after.map(|seconds| seconds.to_string()))
                })
            }
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(*time).await;
                Some(self.carry_out(operation, &path, &call))
            }
            Some(Fault::DelayAnswer(time)) => {
                let reply = self.carry_out(operation, &path, &call);
                tokio::time::sleep(*time).await;
                Some(reply)
            }
            _ => Some(self.carry_out(operation, &path, &call)),
        };
        self.note(operation, path, &call, reply.as_ref());
        match &fault {
            Some(Fault::LoseAnswer) => Outcome { reply: None, fault },
            _ => Outcome { reply, fault },
        }
    }

    /// What is asked for, of this account or of the stand-in for Entra.
    fn operation(&self, call: &Call) -> Result<Operation> {
        if let Some(operation) = Operation::of_entra(call) {
            return Ok(operation);
        }
        match call.path.first().is_some_and(|name| *name == self.account.name) {
            true => Operation::of(call),
            false => Err(Error::new("InvalidUri")),
        }
    }

    fn note(&self, operation: Operation, path: String, call: &Call, reply: Option<&Reply>) {
        let mut journal = self.journal();
        *journal.counts.entry(operation).or_default() += 1;
        if journal.newest.len() >= LOG_REQUESTS_MAX {
            journal.newest.pop_front();
        }
        journal.newest.push_back(Logged {
            operation,
            path,
            status: reply.map_or(0, |reply| reply.status),
            sent_bytes: call.body.len() as u64,
            answer_bytes: reply.map_or(0, Reply::body_bytes),
        });
    }

    fn carry_out(self: &Arc<Self>, operation: Operation, path: &str, call: &Call) -> Reply {
        self.run_hooks(operation, path, false);
        let reply = self.finish(self.perform(operation, call), Some(call));
        self.run_hooks(operation, path, true);
        reply
    }

    fn perform(&self, operation: Operation, call: &Call) -> Result<Reply> {
        if operation.is_of_entra() {
            return Ok(entra::give(self, call, operation));
        }
        let store = &mut *self.store();
        let components = call.path.get(2..).unwrap_or_default();
        let stored = store.shares.get(call.share());
        let target = Target { share: call.share(), stored, path: components };
        let now = self.clock.now();
        let access = self.account.authorize(call, operation, &target, now)?;
        auth::version(call)?;
        let has_length = call.headers.contains_key("content-length");
        if call.method == hyper::Method::PUT && !has_length {
            return Err(Error::new("MissingContentLengthHeader"));
        }
        if call.method != hyper::Method::GET && call.method != hyper::Method::HEAD {
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
        let (account, config, clock) = (&self.account, &self.config, &self.clock);
        let mut context = Context { account, config, clock, store, call, access };
        api::answer(operation, &mut context)
    }

    /// Adds what each answer has.
    fn finish(&self, result: Result<Reply>, call: Option<&Call>) -> Reply {
        let (id, now) = (crypto::guid(), self.clock.now());
        let mut reply = result.unwrap_or_else(|error| {
            let reply = Reply::error(&error, &id, now);
            let challenge = call.filter(|_| error.status() == 401);
            reply.with_some("WWW-Authenticate", challenge.map(entra::challenge))
        });
        reply = reply
            .with("Server", "Windows-Azure-File/1.0 Microsoft-HTTPAPI/2.0")
            .with("x-ms-request-id", id)
            .with("Date", now.rfc1123());
        let Some(call) = call else { return reply };
        let version = auth::version(call).unwrap_or_else(|_| "2025-01-05".to_owned());
        let client_id = call.header("x-ms-client-request-id");
        let client_id = client_id
            .filter(|id| id.len() <= 1024 && id.bytes().all(|byte| (0x21..=0x7e).contains(&byte)));
        reply.with("x-ms-version", version).with_some("x-ms-client-request-id", client_id)
    }
}

/// An error answer with another code.
fn renamed(mut reply: Reply, code: &str, retry_after: Option<String>) -> Reply {
    for (name, value) in &mut reply.headers {
        if name == "x-ms-error-code" {
            *value = code.to_owned();
        }
    }
    let body: String =
        reply.body.iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    let old = "<Code>ServerBusy</Code>";
    reply.body = vec![Bytes::from(body.replace(old, &format!("<Code>{code}</Code>")))];
    reply.with_some("Retry-After", retry_after)
}
