//! One request to the service and its answer: the only file of this room that opens sockets.
//!
//! A request is addressed, signed and sent once here; `send_again` makes it through `Attempts`
//! where doing it twice is doing it once. Errors never show a URL: it may hold a token.

use super::account::Account;
use super::auth::{self, Credential, ToSign};
use super::fail::{self, Lost};
use super::{time, url};
use crate::attempt::{AttemptConfig, Attempts, Class, Repeat, Request};
use crate::{Error, ErrorKind, RemotePath, Result, Timestamp};
use bytes::{Bytes, BytesMut};
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use std::error::Error as StdError;
use std::time::Duration;

/// The protocol that we speak: the last one that brought anything an SMB share needs.
const VERSION: &str = "2025-01-05";

/// A host that does not answer is as good as away.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// The longest silence of an answer: 4 MiB go up in it on a line of 400 kbit/s.
const SILENCE: Duration = Duration::from_secs(90);

/// The longest that one piece of a change may take with all its tries.
const PIECE: Duration = Duration::from_secs(180);

/// Idle connections are closed before the service or a router in between does it.
const IDLE: Duration = Duration::from_secs(50);

/// No answer that is read as a whole is longer: a listing of 5,000 long names has 10 MiB.
const BODY_BYTES_MAX: usize = 64 << 20;

/// A wait that the service asks for is not believed beyond this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// How long the service may read a file that it copies from, in seconds: the clocks' difference that it allows
/// for, and time to wait in its queue.
const READ_SECONDS: i64 = 3600;

/// Clocks this far apart are worth a word when a login fails; the service allows 15 minutes.
const SKEW_SECONDS: i64 = 300;

/// What our callers repeat themselves.
const LOOKS: [&str; 6] = ["identity", "stat", "list", "read", "usage", "snapshots"];

/// What a request is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    File,
    Dir,
    /// The share itself.
    Share,
    /// The account.
    Account,
}

/// A request.
#[derive(Clone)]
pub(super) struct Call<'a> {
    pub(super) op: &'static str,
    pub(super) path: &'a RemotePath,
    scope: Scope,
    method: Method,
    query: Vec<(&'static str, String)>,
    pub(super) headers: HeaderMap,
    body: Bytes,
}

impl<'a> Call<'a> {
    pub(super) fn new(
        method: Method,
        scope: Scope,
        op: &'static str,
        path: &'a RemotePath,
    ) -> Call<'a> {
        let (query, headers) = (Vec::new(), HeaderMap::new());
        Call { op, path, scope, method, query, headers, body: Bytes::new() }
    }

    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("what is sent in headers is ASCII");
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }

    pub(super) fn lease(self, id: Option<&str>) -> Self {
        match id {
            Some(id) => self.header("x-ms-lease-id", id),
            None => self,
        }
    }

    pub(super) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }
}

/// An answer that was read to its end.
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// The service, and which part of it is ours.
pub(super) struct Http {
    client: reqwest::Client,
    pub(super) account: Account,
    share: String,
    root: RemotePath,
    share_url: String,
    root_url: String,
    /// Only this state of the share is looked at, and nothing changed.
    pub(super) snapshot: Option<String>,
    pieces: Attempts,
}

impl Http {
    /// The way to the directory `root` of a share; nothing is sent yet.
    pub(super) fn new(
        account: Account,
        share: &str,
        root: &RemotePath,
        snapshot: Option<String>,
    ) -> Result<Http> {
        // The second time it is there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("covefs/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_WAIT)
            .read_timeout(SILENCE)
            .pool_idle_timeout(IDLE);
        if account.endpoint().starts_with("http://") {
            // Test servers of this machine: no proxy leads there, no certificates are needed.
            builder = builder.no_proxy().tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| {
            let opened = Error::new(ErrorKind::Io, "open", &RemotePath::root());
            opened.caused_by(innermost(&error))
        })?;
        let share_url = format!("{}/{}", account.endpoint(), url::encode(share.as_bytes()));
        let root_url = below(share_url.clone(), root);
        let config = AttemptConfig { permits: 64, permits_reserved: 0, ..AttemptConfig::default() };
        let pieces = Attempts::new(config);
        let (share, root) = (share.to_owned(), root.clone());
        Ok(Http { client, account, share, root, share_url, root_url, snapshot, pieces })
    }

    /// Asks for something, or does what may be done twice, until it is done or there is no use.
    pub(super) async fn send_again(&self, call: &Call<'_>) -> Result<Answer> {
        self.repeat(call, |_| self.send(call)).await
    }

    /// Only looks. Within a change it is repeated here: who asked for that cannot ask again.
    pub(super) async fn ask(&self, call: &Call<'_>) -> Result<Answer> {
        match LOOKS.contains(&call.op) {
            true => self.send(call).await,
            false => self.send_again(call).await,
        }
    }

    /// Tries `attempt`, which sends `call` in its own way and is told the number of the try, as
    /// long as that may help.
    pub(super) async fn repeat<T, Answer: Future<Output = Result<T>>>(
        &self,
        call: &Call<'_>,
        attempt: impl FnMut(u32) -> Answer,
    ) -> Result<T> {
        let request = Request {
            op: call.op,
            path: call.path,
            deadline: PIECE,
            class: Class::Interactive,
            repeat: Repeat::Safe,
        };
        self.pieces.run(&request, attempt).await
    }

    /// Sends once, and reads the answer to its end.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Answer> {
        let mut response = self.open(call).await?;
        let headers = std::mem::take(response.headers_mut());
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| lost(call, &error))? {
            body.extend_from_slice(&chunk);
            if body.len() > BODY_BYTES_MAX {
                return Err(Error::new(ErrorKind::Protocol, call.op, call.path));
            }
        }
        Ok(Answer { headers, body: body.freeze() })
    }

    /// Sends once; the answer says yes, its body is still to be read.
    pub(super) async fn open(&self, call: &Call<'_>) -> Result<reqwest::Response> {
        let bearer = self.bearer(call).await?;
        let mut response = self.execute(call, bearer.as_ref()).await?;
        if let (401, Some(refused)) = (response.status().as_u16(), &bearer)
            && let Credential::Tokens(tokens) = &self.account.credential
        {
            // Revoked, or our clock is wrong: refused before anything was done.
            tokens.forget(refused).await;
            response = self.execute(call, self.bearer(call).await?.as_ref()).await?;
        }
        match response.status().is_success() {
            true => Ok(response),
            false => Err(self.refused(call, response)),
        }
    }

    async fn bearer(&self, call: &Call<'_>) -> Result<Option<HeaderValue>> {
        let Credential::Tokens(tokens) = &self.account.credential else { return Ok(None) };
        let bearer = tokens.bearer().await;
        bearer.map(Some).map_err(|error| Error { op: call.op, path: call.path.clone(), ..error })
    }

    async fn execute(
        &self,
        call: &Call<'_>,
        bearer: Option<&HeaderValue>,
    ) -> Result<reqwest::Response> {
        let mut request = self.request(call)?;
        if let Some(bearer) = bearer {
            let headers = request.headers_mut();
            headers.insert(reqwest::header::AUTHORIZATION, bearer.clone());
            let intent = HeaderName::from_static("x-ms-file-request-intent");
            headers.insert(intent, HeaderValue::from_static("backup"));
        }
        self.client.execute(request).await.map_err(|error| lost(call, &error))
    }

    fn request(&self, call: &Call<'_>) -> Result<reqwest::Request> {
        let base = match call.scope {
            Scope::Account => format!("{}/", self.account.endpoint()),
            Scope::Share => self.share_url.clone(),
            Scope::File | Scope::Dir => below(self.root_url.clone(), call.path),
        };
        let mut query: Vec<(&str, &str)> =
            call.query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        match call.scope {
            Scope::Dir => query.push(("restype", "directory")),
            Scope::Share => query.push(("restype", "share")),
            Scope::File | Scope::Account => {}
        }
        let is_entry = matches!(call.scope, Scope::File | Scope::Dir);
        if let Some(snapshot) = self.snapshot.as_ref().filter(|_| is_entry) {
            query.push(("sharesnapshot", snapshot));
        }
        let mut text = [url::query(query.iter().copied())].to_vec();
        text.extend(self.account.token());
        text.retain(|part| !part.is_empty());
        let text = if text.is_empty() { base } else { format!("{base}?{}", text.join("&")) };
        let url = reqwest::Url::parse(&text)
            .map_err(|_| Error::new(ErrorKind::NameInvalid, call.op, call.path))?;
        let mut headers = call.headers.clone();
        let mut put = |name: &'static str, value: &str| {
            let value = HeaderValue::from_str(value).expect("dates and numbers are ASCII");
            headers.insert(HeaderName::from_static(name), value);
        };
        put("x-ms-version", VERSION);
        put("x-ms-date", &time::http(Timestamp::now()));
        if is_entry {
            put("x-ms-allow-trailing-dot", "true");
        }
        if call.method == Method::PUT {
            put("content-length", &call.body.len().to_string());
        }
        if let Credential::Key(key) = &self.account.credential {
            let to_sign = ToSign {
                method: call.method.as_str(),
                path: url.path(),
                query: &query,
                headers: &headers,
                length: call.body.len(),
            };
            let authorization = auth::authorization(self.account.name(), key, &to_sign);
            let mut value = HeaderValue::from_str(&authorization).expect("base64 is ASCII");
            value.set_sensitive(true);
            headers.insert(reqwest::header::AUTHORIZATION, value);
        }
        let mut request = reqwest::Request::new(call.method.clone(), url);
        *request.headers_mut() = headers;
        if call.method == Method::PUT {
            *request.body_mut() = Some(call.body.clone().into());
        }
        Ok(request)
    }

    /// The address of an entry for a header that names it, with the token where there is one.
    pub(super) fn address(&self, path: &RemotePath) -> String {
        let address = below(self.root_url.clone(), path);
        match self.account.token() {
            Some(token) => format!("{address}?{token}"),
            None => address,
        }
    }

    /// Makes a call read from another file of the share: its address, and what lets the service read it.
    pub(super) async fn copying_from<'a>(
        &self,
        call: Call<'a>,
        path: &RemotePath,
    ) -> Result<Call<'a>> {
        let mut address = self.address(path);
        let mut call = call.header("x-ms-source-allow-trailing-dot", "true");
        match &self.account.credential {
            Credential::Sas(_) => {}
            Credential::Key(key) => {
                let until =
                    Timestamp { seconds: Timestamp::now().seconds + READ_SECONDS, nanos: 0 };
                let until = time::iso_seconds(until);
                let file = path.names().fold(self.root.clone(), |dir, name| dir.join(name));
                let name = self.account.name();
                let token = auth::read_token(key, name, (&self.share, &file), (VERSION, &until));
                let pairs = token.iter().map(|(name, value)| (*name, value.as_str()));
                address = format!("{address}?{}", url::query(pairs));
            }
            Credential::Tokens(_) => {
                let name = HeaderName::from_static("x-ms-copy-source-authorization");
                let bearer = self.bearer(&call).await?;
                call.headers.extend(bearer.map(|bearer| (name, bearer)));
            }
        }
        Ok(call.header("x-ms-copy-source", &address))
    }

    fn refused(&self, call: &Call<'_>, response: reqwest::Response) -> Error {
        let header =
            |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let name = header("x-ms-error-code").unwrap_or_default();
        let status = response.status().as_u16();
        let hint = (name == "AuthenticationFailed").then(|| {
            let theirs = header("date").and_then(time::parse_http);
            let skew = theirs.map_or(0, |theirs| Timestamp::now().seconds - theirs.seconds);
            match skew.abs() > SKEW_SECONDS {
                true => clock_hint(skew),
                false => format!(
                    "the key or the token for the account {} is wrong or has expired",
                    self.account.name()
                ),
            }
        });
        let (kind, refusal) = fail::refusal(status, name, hint);
        let kind = match kind {
            ErrorKind::IsADirectory if call.scope == Scope::Dir => ErrorKind::NotADirectory,
            kind => kind,
        };
        let wait = header("retry-after").and_then(|text| text.trim().parse().ok());
        let error = Error::new(kind, call.op, call.path).caused_by(refusal);
        match wait.map(Duration::from_secs) {
            Some(wait) => error.with_retry_after(wait.min(RETRY_AFTER_MAX)),
            None => error,
        }
    }
}

fn clock_hint(skew: i64) -> String {
    let minutes = skew.abs() / 60;
    let which = if skew > 0 { "ahead of" } else { "behind" };
    format!("this computer's clock is {minutes} minutes {which} the share's; set it right")
}

/// `base` and the names of a path.
fn below(mut base: String, path: &RemotePath) -> String {
    for name in path.names() {
        base.push('/');
        base.push_str(&url::encode(name));
    }
    base
}

/// What a request without an answer ends with.
pub(super) fn lost(call: &Call<'_>, error: &reqwest::Error) -> Error {
    let was_sent = !error.is_connect() && !error.is_builder();
    let kind = match () {
        () if error.is_builder() => ErrorKind::Protocol,
        () if error.is_timeout() && was_sent => ErrorKind::Timeout,
        () => ErrorKind::Unreachable,
    };
    Error::new(kind, call.op, call.path).caused_by(Lost { text: innermost(error), was_sent })
}

/// The cause beneath all causes: those above it only say that a request failed, and to which URL.
pub(super) fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    match cause.is::<reqwest::Error>() {
        true if error.is_timeout() => "no answer in time".into(),
        true => "the connection failed".into(),
        false => cause.to_string(),
    }
}
