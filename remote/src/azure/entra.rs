//! Tokens of Entra ID: where they come from, and when the next one is fetched.
//!
//! A token is fetched by one task while the others wait or, as long as it holds, use the old one;
//! ahead of its end, so that no request has to wait for it then. One that the service refuses is
//! forgotten. Neither a secret nor a token goes over plain HTTP; only the identity of the machine
//! itself is asked so, at an address that no packet leaves the machine for.

use super::http::innermost;
use super::url;
use crate::{Error, ErrorKind, RemotePath, Result};
use reqwest::header::HeaderValue;
use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Where applications log in.
pub const AUTHORITY: &str = "https://login.microsoftonline.com";

/// Where a machine of Azure asks who it is.
pub const MACHINE: &str = "http://169.254.169.254";

/// What the token is for.
const RESOURCE: &str = "https://storage.azure.com/";

/// A token is fetched anew so long before its end, or at half of its time.
const AHEAD: Duration = Duration::from_secs(300);

/// Between two tries to fetch one while the old one still holds.
const TRY_EVERY: Duration = Duration::from_secs(10);

/// `az` starts a Python program and may ask the network itself.
const CLI_WAIT: Duration = Duration::from_secs(60);

/// The longest answer of a token endpoint.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Who we are to Entra.
#[derive(Clone)]
pub enum Identity {
    /// An application and its secret.
    Secret {
        /// The directory that the application is in.
        tenant: String,
        /// The application's id.
        client: String,
        /// Its secret.
        secret: String,
    },
    /// A workload, by the token that a cluster writes into a file and renews there.
    Workload {
        /// The directory that the application is in.
        tenant: String,
        /// The application's id.
        client: String,
        /// The file.
        file: PathBuf,
    },
    /// The machine that this runs on.
    Machine {
        /// Which one, where it has several.
        client: Option<String>,
    },
    /// The user who called `az login`.
    Cli {
        /// The program.
        program: PathBuf,
        /// The directory, where it is not the default one.
        tenant: Option<String>,
    },
}

/// A way to tokens.
#[derive(Clone)]
pub struct Entra {
    /// Who we are.
    pub identity: Identity,
    /// `AUTHORITY`, or another cloud's.
    pub authority: String,
    /// `MACHINE`, or what stands in for it.
    pub machine: String,
}

impl fmt::Debug for Entra {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self.identity {
            Identity::Secret { .. } => "Entra(secret)",
            Identity::Workload { .. } => "Entra(workload)",
            Identity::Machine { .. } => "Entra(machine)",
            Identity::Cli { .. } => "Entra(az)",
        })
    }
}

struct Token {
    header: HeaderValue,
    renew_at: Instant,
    ends_at: Instant,
}

/// The token in use.
pub(super) struct Tokens {
    entra: Entra,
    /// Held while one is fetched: whoever comes then waits for the same one.
    held: Mutex<Option<Token>>,
}

fn failed(kind: ErrorKind, why: impl Into<String>) -> Error {
    Error::new(kind, "log in", &RemotePath::root()).caused_by(why.into())
}

impl Tokens {
    pub(super) fn new(entra: Entra) -> std::result::Result<Tokens, &'static str> {
        let asks_authority =
            matches!(entra.identity, Identity::Secret { .. } | Identity::Workload { .. });
        if asks_authority && !entra.authority.starts_with("https://") {
            return Err("the authority's address must begin with https://");
        }
        Ok(Tokens { entra, held: Mutex::new(None) })
    }

    /// The value of the `Authorization` header.
    pub(super) async fn bearer(&self) -> Result<HeaderValue> {
        let mut held = self.held.lock().await;
        let now = Instant::now();
        match &mut *held {
            Some(token) if now < token.renew_at => return Ok(token.header.clone()),
            Some(token) if now < token.ends_at => {
                token.renew_at = now + TRY_EVERY;
                let old = token.header.clone();
                match self.fetch().await {
                    Ok(fresh) => *held = Some(fresh),
                    Err(error) => {
                        tracing::warn!(%error, "no new token; the old one holds for now");
                        return Ok(old);
                    }
                }
            }
            _ => *held = Some(self.fetch().await?),
        }
        let fresh = held.as_ref().expect("it was put there just now");
        Ok(fresh.header.clone())
    }

    /// The service does not take this one: the next request fetches another.
    pub(super) async fn forget(&self, refused: &HeaderValue) {
        let mut held = self.held.lock().await;
        if held.as_ref().is_some_and(|token| token.header == *refused) {
            *held = None;
        }
    }

    async fn fetch(&self) -> Result<Token> {
        let answer = match &self.entra.identity {
            Identity::Secret { tenant, client, secret } => {
                self.ask_authority(tenant, client, &[("client_secret", secret)]).await?
            }
            Identity::Workload { tenant, client, file } => {
                let assertion = std::fs::read_to_string(file).map_err(|error| {
                    let why = format!("the token file {}: {error}", file.display());
                    failed(ErrorKind::Unauthenticated, why)
                })?;
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                let proof =
                    [("client_assertion_type", kind), ("client_assertion", assertion.trim())];
                self.ask_authority(tenant, client, &proof).await?
            }
            Identity::Machine { client } => self.ask_machine(client.as_deref()).await?,
            Identity::Cli { program, tenant } => ask_cli(program.clone(), tenant.clone()).await?,
        };
        let (text, lifetime) = parse(&answer).ok_or_else(|| {
            failed(ErrorKind::Protocol, "the answer to the request for a token makes no sense")
        })?;
        let mut header = HeaderValue::try_from(format!("Bearer {text}"))
            .map_err(|_| failed(ErrorKind::Protocol, "the token is no text"))?;
        header.set_sensitive(true);
        let now = Instant::now();
        let renew_at = now + lifetime - AHEAD.min(lifetime / 2);
        Ok(Token { header, renew_at, ends_at: now + lifetime })
    }

    async fn ask_authority(
        &self,
        tenant: &str,
        client: &str,
        proof: &[(&str, &str)],
    ) -> Result<Vec<u8>> {
        let authority = self.entra.authority.trim_end_matches('/');
        let address = format!("{authority}/{}/oauth2/v2.0/token", url::encode(tenant.as_bytes()));
        let scope = format!("{RESOURCE}.default");
        let fields =
            [("grant_type", "client_credentials"), ("client_id", client), ("scope", &scope)];
        let body = url::query(fields.iter().chain(proof).copied());
        let form = "application/x-www-form-urlencoded";
        let request = client_of(false)?.post(address).header("content-type", form).body(body);
        ask(request, "Entra ID").await
    }

    async fn ask_machine(&self, client: Option<&str>) -> Result<Vec<u8>> {
        let machine = self.entra.machine.trim_end_matches('/');
        let fields = [("api-version", "2018-02-01"), ("resource", RESOURCE)];
        let named = client.map(|client| ("client_id", client));
        let query = url::query(fields.into_iter().chain(named));
        let address = format!("{machine}/metadata/identity/oauth2/token?{query}");
        let request = client_of(true)?.get(address).header("metadata", "true");
        ask(request, "the identity of this machine").await
    }
}

/// The machine's own address is never reached by a proxy, and speaks no TLS.
fn client_of(is_machine: bool) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(20));
    if is_machine {
        builder = builder.no_proxy().tls_certs_only([]);
    }
    builder.build().map_err(|error| failed(ErrorKind::Io, innermost(&error)))
}

async fn ask(request: reqwest::RequestBuilder, whom: &str) -> Result<Vec<u8>> {
    let lost = |error: reqwest::Error| {
        failed(ErrorKind::Unreachable, format!("{whom}: {}", innermost(&error)))
    };
    let mut response = request.send().await.map_err(lost)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES_MAX {
            return Err(failed(ErrorKind::Protocol, format!("{whom} answers too much")));
        }
    }
    if status.is_success() {
        return Ok(body);
    }
    let kind = match status.as_u16() {
        429 | 500..=599 => ErrorKind::Busy,
        _ => ErrorKind::Unauthenticated,
    };
    Err(failed(kind, format!("{whom} says {}: {}", status.as_u16(), refusal(&body))))
}

/// What a refusal says, as far as it helps: `AADSTS7000215: The client secret is wrong.`
fn refusal(body: &[u8]) -> String {
    let answer: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| answer[name].as_str().unwrap_or_default().to_string();
    let said = text("error_description");
    let said = if said.is_empty() { text("error") } else { said };
    // What follows are numbers for Microsoft's support.
    let first = said.lines().next().unwrap_or_default();
    let first = first.split(" Trace ID").next().unwrap_or_default();
    if first.is_empty() { "no reason".into() } else { first.chars().take(200).collect() }
}

/// The token in an answer, and how long it holds.
pub(super) fn parse(answer: &[u8]) -> Option<(String, Duration)> {
    let answer: serde_json::Value = serde_json::from_slice(answer).ok()?;
    let number = |name: &str| {
        let value = &answer[name];
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    };
    let text = answer["access_token"].as_str().or_else(|| answer["accessToken"].as_str())?;
    let seconds = number("expires_in").or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        Some(number("expires_on")?.saturating_sub(now))
    })?;
    // A day at most: nobody gives out longer ones, and sums of times stay sums.
    Some((text.to_string(), Duration::from_secs(seconds.min(86_400))))
}

async fn ask_cli(program: PathBuf, tenant: Option<String>) -> Result<Vec<u8>> {
    let shown = program.display().to_string();
    let run = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(program);
        command.args(["account", "get-access-token", "--output", "json", "--resource", RESOURCE]);
        if let Some(tenant) = tenant {
            command.args(["--tenant", &tenant]);
        }
        command.stdin(Stdio::null()).output()
    });
    match tokio::time::timeout(CLI_WAIT, run).await {
        Ok(Ok(Ok(output))) if output.status.success() => Ok(output.stdout),
        Ok(Ok(Ok(output))) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let first = said.lines().next().unwrap_or("no reason").to_string();
            Err(failed(ErrorKind::Unauthenticated, format!("{shown}: {first}; call az login")))
        }
        Ok(Ok(Err(error))) => {
            Err(failed(ErrorKind::Unauthenticated, format!("{shown} cannot be run: {error}")))
        }
        Ok(Err(_)) | Err(_) => Err(failed(ErrorKind::Timeout, format!("{shown} does not answer"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_all_kinds_are_read() {
        let hour = Duration::from_secs(3600);
        let parsed = |text: &str| parse(text.as_bytes());
        assert_eq!(parsed(r#"{"access_token":"t","expires_in":3600}"#), Some(("t".into(), hour)));
        assert_eq!(parsed(r#"{"access_token":"t","expires_in":"3600"}"#), Some(("t".into(), hour)));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let cli = format!(r#"{{"accessToken":"t","expiresOn":"x","expires_on":{}}}"#, now + 3600);
        let (_, lifetime) = parsed(&cli).unwrap();
        assert!(lifetime <= hour && lifetime > hour / 2, "{lifetime:?}");
        let past = parsed(r#"{"access_token":"t","expires_on":"1"}"#).unwrap();
        assert_eq!(past.1, Duration::ZERO);
        for wrong in ["", "{}", r#"{"access_token":"t"}"#, r#"{"expires_in":1}"#] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_refusal_is_one_short_line() {
        let body = br#"{"error":"invalid_client","error_description":"AADSTS7: wrong. Trace ID: 1\r\nTime"}"#;
        assert_eq!(refusal(body), "AADSTS7: wrong.");
        assert_eq!(refusal(br#"{"error":"invalid_request"}"#), "invalid_request");
        assert_eq!(refusal(b"<html>"), "no reason");
    }

    #[test]
    fn a_secret_goes_over_https_only() {
        let identity =
            Identity::Secret { tenant: "t".into(), client: "c".into(), secret: "hunter2".into() };
        let entra = |authority: &str| Entra {
            identity: identity.clone(),
            authority: authority.into(),
            machine: MACHINE.into(),
        };
        assert!(Tokens::new(entra("http://127.0.0.1:1")).is_err());
        assert!(Tokens::new(entra(AUTHORITY)).is_ok());
        assert!(!format!("{:?}", entra(AUTHORITY)).contains("hunter2"));
    }
}
