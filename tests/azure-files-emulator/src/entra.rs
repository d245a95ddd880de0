//! A stand-in for Entra: the token endpoint (client secret, federated token) and the endpoint of
//! managed identities that virtual machines have. Tokens are good for this server alone.

use crate::auth::token;
use crate::call::{Call, Reply};
use crate::names::percent_decode;
use crate::operation::Operation;
use crate::server::Server;
use crate::time::Ticks;
use serde_json::json;

const MANAGED_IDENTITY: &str = "00000000-aaaa-bbbb-cccc-000000000000";

/// What a refused request is told about where tokens come from.
pub fn challenge(call: &Call) -> String {
    let base = base(call);
    format!(
        "Bearer authorization_uri={base}/{}/oauth2/authorize resource_id=https://storage.azure.com",
        token::TENANT
    )
}

fn base(call: &Call) -> String {
    let scheme = if call.secure { "https" } else { "http" };
    format!("{scheme}://{}", call.header("host").unwrap_or("127.0.0.1"))
}

/// The answer to a request for a token.
pub fn give(server: &Server, call: &Call, operation: Operation) -> Reply {
    match operation {
        Operation::GetMachineToken => give_machine_token(server, call),
        _ => give_token(server, call),
    }
}

/// The answer, if the request is for what surrounds tokens.
pub fn answer(call: &Call) -> Option<Reply> {
    let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
    match (call.method.as_str(), &path[..]) {
        ("GET", [_, "discovery", "instance"]) => Some(discovery(call)),
        ("GET", [tenant, "v2.0", ".well-known", "openid-configuration"]) => {
            Some(configuration(call, tenant))
        }
        _ => None,
    }
}

fn refusal(status: u16, error: &str, description: &str) -> Reply {
    Reply::json(status, &json!({"error": error, "error_description": description}))
}

/// The token endpoint of a tenant.
fn give_token(server: &Server, call: &Call) -> Reply {
    let body = String::from_utf8_lossy(&call.body).replace('+', " ");
    let field = |name: &str| {
        let mut pairs = body.split('&').filter_map(|pair| pair.split_once('='));
        let found = pairs.find(|(key, _)| *key == name);
        found.and_then(|(_, value)| percent_decode(value)).unwrap_or_default()
    };
    let entra = &server.config.entra;
    if field("grant_type") != "client_credentials" {
        return refusal(400, "unsupported_grant_type", "AADSTS70003: client_credentials only.");
    }
    if field("client_id") != entra.client_id {
        return refusal(400, "unauthorized_client", "AADSTS700016: The application is not known.");
    }
    let federated = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let by_secret = field("client_secret") == entra.client_secret;
    let by_assertion = field("client_assertion_type") == federated
        && field("client_assertion").trim() == entra.federated_token;
    if !by_secret && !by_assertion {
        return refusal(401, "invalid_client", "AADSTS7000215: The client secret is wrong.");
    }
    let scope = field("scope");
    let resource = scope.split(' ').next().unwrap_or_default().trim_end_matches("/.default");
    if !token::is_storage(resource) {
        return refusal(400, "invalid_scope", "AADSTS70011: The scope is not of storage.");
    }
    let (token, seconds, _) = issue(server, &entra.client_id, resource);
    Reply::json(
        200,
        &json!({
            "token_type": "Bearer",
            "expires_in": seconds,
            "ext_expires_in": seconds,
            "access_token": token,
        }),
    )
}

fn issue(server: &Server, subject: &str, resource: &str) -> (String, i64, Ticks) {
    let (now, seconds) = (server.clock.now(), server.config.entra.token_seconds);
    let expires = Ticks(now.0 + Ticks::from_seconds(seconds).0);
    (token::issue(&server.account, subject, resource, now, expires), seconds, expires)
}

/// The endpoint of a machine's managed identity.
fn give_machine_token(server: &Server, call: &Call) -> Reply {
    if !call.header("metadata").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return refusal(400, "invalid_request", "Required metadata header not specified");
    }
    if call.query("api-version").is_none() {
        return refusal(400, "invalid_request", "Required query variable api-version is missing");
    }
    let resource = call.query("resource").unwrap_or_default();
    if !token::is_storage(resource) {
        return refusal(400, "invalid_resource", "AADSTS500011: The resource is not storage.");
    }
    let asked = call.query("client_id");
    if asked.is_some_and(|id| id != server.config.entra.client_id) {
        return refusal(400, "invalid_request", "Identity not found");
    }
    let subject = asked.unwrap_or(MANAGED_IDENTITY);
    let (token, seconds, expires) = issue(server, subject, resource);
    let begin = Ticks(expires.0 - Ticks::from_seconds(seconds).0);
    Reply::json(
        200,
        &json!({
            "access_token": token,
            "client_id": subject,
            "expires_in": seconds.to_string(),
            "expires_on": expires.seconds().to_string(),
            "ext_expires_in": seconds.to_string(),
            "not_before": begin.seconds().to_string(),
            "resource": resource,
            "token_type": "Bearer",
        }),
    )
}

/// A program in place of `az`, which says one token whatever it is asked for.
#[cfg(unix)]
pub fn az_script(token: &str, expires: Ticks) -> String {
    let iso = expires.iso();
    let local = format!("{} {}.000000", &iso[..10], &iso[11..19]);
    let answer = json!({
        "accessToken": token,
        "expiresOn": local,
        "expires_on": expires.seconds(),
        "subscription": "00000000-0000-0000-0000-000000000000",
        "tenant": token::TENANT,
        "tokenType": "Bearer",
    });
    format!(
        "#!/bin/sh\n\
         # A stand-in for az: it knows one command.\n\
         case \"$1 $2\" in\n\
         'account get-access-token') ;;\n\
         *) echo \"ERROR: '$*' is not known to this stand-in.\" >&2; exit 2 ;;\n\
         esac\n\
         cat <<'ANSWER'\n{answer}\nANSWER\n"
    )
}

/// What libraries ask before they believe an authority.
fn discovery(call: &Call) -> Reply {
    let tenant = call.path.first().map_or(token::TENANT, String::as_str);
    let host = call.header("host").unwrap_or("127.0.0.1");
    let endpoint = format!("{}/{tenant}/v2.0/.well-known/openid-configuration", base(call));
    Reply::json(
        200,
        &json!({
            "tenant_discovery_endpoint": endpoint,
            "api-version": "1.1",
            "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
        }),
    )
}

fn configuration(call: &Call, tenant: &str) -> Reply {
    let base = format!("{}/{tenant}", base(call));
    Reply::json(
        200,
        &json!({
            "issuer": format!("{base}/v2.0"),
            "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
            "token_endpoint": format!("{base}/oauth2/v2.0/token"),
            "device_authorization_endpoint": format!("{base}/oauth2/v2.0/devicecode"),
        }),
    )
}
