//! The calls of the protocol: how a request is told to be one, and what it needs. The last two
//! are of the stand-in for Entra: they are counted and go wrong like the others.

use crate::call::Call;
use crate::error::{Error, Result};
use hyper::Method;

macro_rules! operations {
    ($($name:ident $types:literal $permissions:literal,)*) => {
        /// One call of the protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the names are the protocol's")]
        pub enum Operation { $($name,)* }

        impl Operation {
            /// All of them.
            pub const ALL: &[Operation] = &[$(Operation::$name,)*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Operation::$name => stringify!($name),)* }
            }

            /// What an account SAS must have: the resource type, and any of these permissions.
            pub fn needs(self) -> (char, &'static str) {
                match self { $(Operation::$name => ($types, $permissions),)* }
            }
        }
    };
}

operations! {
    ListShares 's' "l",
    GetServiceProperties 's' "r",
    SetServiceProperties 's' "w",
    GetUserDelegationKey 's' "",
    CreateShare 'c' "cw",
    GetShareProperties 'c' "r",
    SetShareProperties 'c' "w",
    GetShareMetadata 'c' "r",
    SetShareMetadata 'c' "w",
    DeleteShare 'c' "d",
    UndeleteShare 'c' "w",
    GetShareAcl 'c' "",
    SetShareAcl 'c' "",
    GetShareStats 'c' "r",
    SnapshotShare 'c' "cw",
    LeaseShare 'c' "w",
    CreatePermission 'c' "wc",
    GetPermission 'c' "r",
    CreateDirectory 'o' "cw",
    GetDirectory 'o' "r",
    SetDirectoryProperties 'o' "w",
    SetDirectoryMetadata 'o' "w",
    DeleteDirectory 'o' "d",
    ListDirectory 'c' "l",
    RenameDirectory 'o' "w",
    CreateFile 'o' "cw",
    GetFile 'o' "r",
    HeadFile 'o' "r",
    SetFileProperties 'o' "w",
    SetFileMetadata 'o' "w",
    PutRange 'o' "w",
    ClearRange 'o' "w",
    PutRangeFromUrl 'o' "w",
    ListRanges 'o' "r",
    RenameFile 'o' "w",
    CopyFile 'o' "cw",
    AbortCopy 'o' "w",
    DeleteFile 'o' "d",
    LeaseFile 'o' "w",
    ListHandles 'o' "r",
    CloseHandles 'o' "w",
    CreateSymbolicLink 'o' "cw",
    GetSymbolicLink 'o' "r",
    CreateHardLink 'o' "cw",
    GetToken 's' "",
    GetMachineToken 's' "",
}

impl Operation {
    /// By name, in any case.
    pub fn parse(name: &str) -> Option<Operation> {
        let all = Operation::ALL.iter().copied();
        all.into_iter().find(|operation| operation.name().eq_ignore_ascii_case(name))
    }

    /// What a request asks for.
    pub fn of(call: &Call) -> Result<Operation> {
        let restype = call.query("restype").unwrap_or_default().to_ascii_lowercase();
        let comp = call.query("comp").unwrap_or_default().to_ascii_lowercase();
        let method = if call.method == Method::HEAD { "GET" } else { call.method.as_str() };
        let found = match call.path.len() {
            0 | 1 => of_account(method, &restype, &comp),
            2 if restype == "share" => of_share(method, &comp),
            _ if restype == "directory" => of_directory(method, &comp),
            _ if matches!(&*comp, "listhandles" | "forceclosehandles") => of_handles(method, &comp),
            2 => None,
            _ => of_file(call, method, &restype, &comp),
        };
        found.ok_or_else(|| {
            let known = matches!(method, "GET" | "PUT" | "DELETE" | "POST");
            match (known, comp.is_empty()) {
                (false, _) => Error::new("UnsupportedHttpVerb"),
                (true, false) => Error::query("InvalidQueryParameterValue", "comp", &comp, ""),
                (true, true) => Error::query("InvalidQueryParameterValue", "restype", &restype, ""),
            }
        })
    }

    /// Which of the stand-in for Entra's a request asks for, if any.
    pub fn of_entra(call: &Call) -> Option<Operation> {
        let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
        match (call.method.as_str(), &path[..]) {
            ("POST", [_, "oauth2", "v2.0", "token"]) => Some(Operation::GetToken),
            ("GET", ["metadata", "identity", "oauth2", "token"]) => {
                Some(Operation::GetMachineToken)
            }
            _ => None,
        }
    }

    /// Whether it is one of the stand-in for Entra.
    pub fn is_of_entra(self) -> bool {
        matches!(self, Operation::GetToken | Operation::GetMachineToken)
    }

    /// Whether bearer tokens may ask for it from 2024-11-04 on only.
    pub fn is_management(self) -> bool {
        let of_account_or_share = self <= Operation::LeaseShare;
        of_account_or_share && self != Operation::GetUserDelegationKey
    }
}

fn of_account(method: &str, restype: &str, comp: &str) -> Option<Operation> {
    match (method, restype, comp) {
        ("GET", "", "list") => Some(Operation::ListShares),
        ("GET", "service", "properties") => Some(Operation::GetServiceProperties),
        ("PUT", "service", "properties") => Some(Operation::SetServiceProperties),
        ("POST", "service", "userdelegationkey") => Some(Operation::GetUserDelegationKey),
        _ => None,
    }
}

fn of_share(method: &str, comp: &str) -> Option<Operation> {
    match (method, comp) {
        ("PUT", "") => Some(Operation::CreateShare),
        ("GET", "") => Some(Operation::GetShareProperties),
        ("DELETE", "") => Some(Operation::DeleteShare),
        ("PUT", "properties") => Some(Operation::SetShareProperties),
        ("GET", "metadata") => Some(Operation::GetShareMetadata),
        ("PUT", "metadata") => Some(Operation::SetShareMetadata),
        ("PUT", "undelete") => Some(Operation::UndeleteShare),
        ("GET", "acl") => Some(Operation::GetShareAcl),
        ("PUT", "acl") => Some(Operation::SetShareAcl),
        ("GET", "stats") => Some(Operation::GetShareStats),
        ("PUT", "snapshot") => Some(Operation::SnapshotShare),
        ("PUT", "lease") => Some(Operation::LeaseShare),
        ("PUT", "filepermission") => Some(Operation::CreatePermission),
        ("GET", "filepermission") => Some(Operation::GetPermission),
        _ => None,
    }
}

fn of_directory(method: &str, comp: &str) -> Option<Operation> {
    match (method, comp) {
        ("PUT", "") => Some(Operation::CreateDirectory),
        ("GET", "" | "metadata") => Some(Operation::GetDirectory),
        ("DELETE", "") => Some(Operation::DeleteDirectory),
        ("PUT", "properties") => Some(Operation::SetDirectoryProperties),
        ("PUT", "metadata") => Some(Operation::SetDirectoryMetadata),
        ("GET", "list") => Some(Operation::ListDirectory),
        ("PUT", "rename") => Some(Operation::RenameDirectory),
        _ => None,
    }
}

fn of_handles(method: &str, comp: &str) -> Option<Operation> {
    match (method, comp) {
        ("GET", "listhandles") => Some(Operation::ListHandles),
        ("PUT", "forceclosehandles") => Some(Operation::CloseHandles),
        _ => None,
    }
}

fn of_file(call: &Call, method: &str, restype: &str, comp: &str) -> Option<Operation> {
    let from_url = call.headers.contains_key("x-ms-copy-source");
    let clears = call.header("x-ms-write").is_some_and(|mode| mode.eq_ignore_ascii_case("clear"));
    let head = call.method == Method::HEAD;
    match (method, restype, comp) {
        ("PUT", "symboliclink", "") => Some(Operation::CreateSymbolicLink),
        ("GET", "symboliclink", "") => Some(Operation::GetSymbolicLink),
        ("PUT", "hardlink", "") => Some(Operation::CreateHardLink),
        ("PUT", "", "") if from_url => Some(Operation::CopyFile),
        ("PUT", "", "") => Some(Operation::CreateFile),
        ("GET", "", "" | "metadata") if head => Some(Operation::HeadFile),
        ("GET", "", "metadata") => Some(Operation::HeadFile),
        ("GET", "", "") => Some(Operation::GetFile),
        ("DELETE", "", "") => Some(Operation::DeleteFile),
        ("PUT", "", "properties") => Some(Operation::SetFileProperties),
        ("PUT", "", "metadata") => Some(Operation::SetFileMetadata),
        ("PUT", "", "range") if from_url => Some(Operation::PutRangeFromUrl),
        ("PUT", "", "range") if clears => Some(Operation::ClearRange),
        ("PUT", "", "range") => Some(Operation::PutRange),
        ("GET", "", "rangelist") => Some(Operation::ListRanges),
        ("PUT", "", "rename") => Some(Operation::RenameFile),
        ("PUT", "", "copy") => Some(Operation::AbortCopy),
        ("PUT", "", "lease") => Some(Operation::LeaseFile),
        _ => None,
    }
}
