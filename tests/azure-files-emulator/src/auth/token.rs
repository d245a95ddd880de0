//! Bearer tokens as the stand-in for Entra gives them out, and keys made from them. Nothing is
//! kept: a token carries its expiry under the server's own signature.

use super::Account;
use crate::crypto;
use crate::time::Ticks;
use serde_json::{Value, json};

/// The tenant that tokens are of, if a request names none.
pub const TENANT: &str = "11111111-2222-3333-4444-555555555555";

/// What a token is for.
const AUDIENCES: [&str; 2] = ["https://storage.azure.com", ".file.core.windows.net"];

/// Whether tokens for `resource` are of use here.
pub fn is_storage(resource: &str) -> bool {
    let resource = resource.trim_end_matches('/');
    AUDIENCES.iter().any(|audience| resource == *audience || resource.ends_with(audience))
}

/// A token for `subject` that holds until `expires`.
pub fn issue(
    account: &Account,
    subject: &str,
    resource: &str,
    now: Ticks,
    expires: Ticks,
) -> String {
    let header = json!({"typ": "JWT", "alg": "HS256"}).to_string();
    let claims = json!({
        "aud": resource,
        "iss": format!("https://sts.windows.net/{TENANT}/"),
        "tid": TENANT,
        "oid": subject,
        "sub": subject,
        "iat": now.seconds(),
        "nbf": now.seconds(),
        "exp": expires.seconds(),
        "jti": crypto::guid(),
        "generation": account.token_generation(),
    });
    let text =
        [header, claims.to_string()].map(|part| crypto::base64_url(part.as_bytes())).join(".");
    let signature = crypto::base64_url(&crypto::hmac(&secret(account), &text));
    format!("{text}.{signature}")
}

/// The claims of a token that holds; else why it does not.
pub fn check(account: &Account, token: &str, now: Ticks) -> Result<Value, &'static str> {
    let (text, signature) = token.trim().rsplit_once('.').ok_or("not a token")?;
    if crypto::base64_url(&crypto::hmac(&secret(account), text)) != signature {
        return Err("the signature is wrong");
    }
    let claims = text.split('.').nth(1).and_then(crypto::from_base64_url).ok_or("no claims")?;
    let claims: Value = serde_json::from_slice(&claims).map_err(|_| "no claims")?;
    if claims["exp"].as_i64().is_none_or(|expires| expires <= now.seconds()) {
        return Err("the token has expired");
    }
    if claims["generation"].as_u64() != Some(account.token_generation()) {
        return Err("the token was revoked");
    }
    match claims["aud"].as_str().is_some_and(is_storage) {
        true => Ok(claims),
        false => Err("the token is for another service"),
    }
}

/// Tokens are signed by a key that only the account's owner could make.
fn secret(account: &Account) -> Vec<u8> {
    crypto::hmac(&account.key, "bearer tokens")
}

/// The user delegation key of which these are the public parts.
pub fn delegation_key(account: &Account, part: impl Fn(&str) -> String) -> Vec<u8> {
    let names = ["skoid", "sktid", "skt", "ske", "sks", "skv"];
    crypto::hmac(&account.key, &names.map(part).join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_until_it_expires_and_cannot_be_made_up() {
        let account = Account::new("a", b"key".to_vec());
        let at = Ticks::from_seconds;
        let token = issue(&account, "me", "https://storage.azure.com/", at(100), at(200));
        assert_eq!(check(&account, &token, at(199)).unwrap()["oid"], "me");
        assert_eq!(check(&account, &token, at(200)), Err("the token has expired"));
        account.revoke_tokens();
        assert_eq!(check(&account, &token, at(150)), Err("the token was revoked"));
        let other = Account::new("a", b"other".to_vec());
        assert_eq!(check(&other, &token, at(150)), Err("the signature is wrong"));
        let mail = issue(&account, "me", "https://graph.microsoft.com", at(100), at(200));
        assert_eq!(check(&account, &mail, at(150)), Err("the token is for another service"));
    }
}
