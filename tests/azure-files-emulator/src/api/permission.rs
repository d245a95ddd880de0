//! Security descriptors that a share keeps, by key.

use super::Context;
use crate::call::Reply;
use crate::error::{Error, Result};
use crate::store::Permission;
use serde_json::{Value, json};

/// Create Permission.
pub fn create(context: &mut Context<'_>) -> Result<Reply> {
    let body: Value =
        serde_json::from_slice(&context.call.body).map_err(|_| Error::new("InvalidInput"))?;
    let invalid = || Error::new("FileInvalidPermission");
    let text = body["permission"].as_str().ok_or_else(invalid)?.trim().to_owned();
    let format = body["format"].as_str().unwrap_or("Sddl").to_owned();
    let is_sddl = format.eq_ignore_ascii_case("sddl");
    if is_sddl && !["O:", "G:", "D:", "S:"].iter().any(|start| text.starts_with(start)) {
        return Err(invalid());
    }
    let key = context.share_mut()?.add_permission(Permission { text, format });
    Ok(Reply::new(201).with("x-ms-file-permission-key", key))
}

/// Get Permission.
pub fn get(context: &mut Context<'_>) -> Result<Reply> {
    let key = context.call.required("x-ms-file-permission-key")?;
    let found = context.share()?.permissions.get(key);
    let permission = found.ok_or_else(|| Error::new("FileInvalidPermissionKey"))?;
    let value = match context.call.header("x-ms-file-permission-format") {
        None => json!({"permission": permission.text}),
        Some(format) => json!({"permission": permission.text, "format": format}),
    };
    Ok(Reply::json(200, &value))
}
