//! Logging in by a Kerberos ticket: a KDC of the test's own, on a port of the loopback.

use super::samba::{PLAIN, Samba, free_port, not_run};
use covefs_remote::smb::{Login, SmbConfig, SmbRemote, Ticket};
use covefs_remote::{ErrorKind, Remote, RemotePath};
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const REALM: &str = "COVEFS.TEST";
const PASSWORD: &str = "hunter2";
/// Programs of Debian's krb5-kdc, krb5-admin-server and krb5-user.
const PROGRAMS: [&str; 5] = ["kdb5_util", "kadmin.local", "krb5kdc", "kinit", "kvno"];

struct Kdc {
    dir: tempfile::TempDir,
    server: Child,
}

impl Drop for Kdc {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Kdc {
    /// With a user of the server's, and a key of the server's name.
    fn start() -> Option<Kdc> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_there =
            |name: &&str| std::env::split_paths(&path).any(|dir| dir.join(name).exists());
        if let Some(name) = PROGRAMS.iter().find(|name| !is_there(name)) {
            not_run(&format!("no {name} (apt-get install krb5-kdc krb5-admin-server krb5-user)"));
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let (root, port) = (dir.path().display(), free_port());
        let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
        write(
            "krb5.conf",
            format!(
                "[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n rdns = false\n \
             dns_canonicalize_hostname = false\n[realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{port}\n }}\n"
            ),
        );
        // Without what only Active Directory says of a user: the server is on its own.
        write(
            "kdc.conf",
            format!(
                "[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n\
             [realms]\n {REALM} = {{\n  database_name = {root}/principal\n  key_stash_file = {root}/stash\n  \
             acl_file = {root}/acl\n  disable_pac = true\n  \
             supported_enctypes = aes256-cts-hmac-sha1-96:normal\n }}\n"
            ),
        );
        run(dir.path(), "kdb5_util", &["create", "-s", "-r", REALM, "-P", "master"], "");
        for query in [
            format!("addprinc -pw {PASSWORD} root"),
            "addprinc -randkey cifs/localhost".into(),
            format!("ktadd -k {root}/keytab cifs/localhost"),
        ] {
            run(dir.path(), "kadmin.local", &["-q", &query], "");
        }
        let mut command = Command::new("setpriv");
        let command = command.args(["--pdeathsig", "KILL", "krb5kdc", "-n"]);
        let server = variables(command, dir.path()).spawn().unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(Instant::now() < end, "the KDC does not start");
            std::thread::park_timeout(Duration::from_millis(10));
        }
        Some(Kdc { dir, server })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ticket(&self) -> Ticket {
        Ticket { cache: self.at("tickets"), config: self.at("krb5.conf") }
    }

    fn run(&self, program: &str, args: &[&str], input: &str) {
        run(self.dir.path(), program, args, input);
    }
}

fn variables<'a>(command: &'a mut Command, dir: &Path) -> &'a mut Command {
    command.env("KRB5_CONFIG", dir.join("krb5.conf")).env("KRB5_KDC_PROFILE", dir.join("kdc.conf"));
    command.env("KRB5CCNAME", format!("FILE:{}", dir.join("tickets").display()));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null())
}

fn run(dir: &Path, program: &str, args: &[&str], input: &str) {
    let mut child = variables(Command::new(program).args(args), dir).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{program} {args:?}");
}

fn remote(samba: &Samba, ticket: Ticket, user: &str) -> SmbRemote {
    let login = Login { user: user.into(), ticket: Some(ticket), ..Login::default() };
    SmbRemote::new(SmbConfig { port: samba.port, ..SmbConfig::new("localhost", PLAIN, login) })
}

async fn refused(remote: SmbRemote) -> String {
    let error = remote.identity().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthenticated, "{error:?}");
    error.source.unwrap().to_string()
}

#[tokio::test]
async fn a_ticket_logs_in_where_no_password_is() {
    let Some(kdc) = Kdc::start() else { return };
    let settings = format!(
        "realm = {REALM}\nkerberos method = dedicated keytab\ndedicated keytab file = {}",
        kdc.at("keytab").display()
    );
    let Some(samba) = Samba::start_with(&settings) else { return };
    assert!(refused(remote(&samba, kdc.ticket(), "")).await.contains("kinit"), "no tickets yet");
    kdc.run("kinit", &["root"], &format!("{PASSWORD}\n"));

    // The ticket for all gets one for the server.
    samba.put(PLAIN, "f", b"bytes");
    let share = remote(&samba, kdc.ticket(), "root");
    let found = share.stat(&RemotePath::parse(b"f")).await.unwrap();
    assert_eq!(found.size, 5);
    assert!(share.spoken().unwrap().cipher.is_some(), "encrypted as by a password");
    let said = refused(remote(&samba, kdc.ticket(), "somebody")).await;
    assert!(said.contains("is of root, not of somebody"), "{said}");

    // Without a KDC that is known only the server's own does.
    let lost = Ticket { config: kdc.at("gone"), ..kdc.ticket() };
    let said = refused(remote(&samba, lost.clone(), "")).await;
    assert!(said.contains("names no kdc") && said.contains("kvno cifs/localhost"), "{said}");
    kdc.run("kvno", &["cifs/localhost"], "");
    let share = remote(&samba, lost, "");
    assert_eq!(share.stat(&RemotePath::parse(b"f")).await.unwrap().size, 5);

    // Others' bytes in its place.
    std::fs::write(kdc.at("tickets"), b"no tickets").unwrap();
    assert!(refused(remote(&samba, kdc.ticket(), "")).await.contains("tickets"));
}
