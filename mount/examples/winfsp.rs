//! A drive on Windows, as long as there is no command for it: an Azure file share at a drive letter,
//! until Enter is pressed. Nobody has run it yet (docs/WINDOWS.md).
//!
//! ```text
//!   set AZURE_STORAGE_CONNECTION_STRING=...
//!   cargo run -p covefs-mount --example winfsp -- SHARE X: CACHE_DIR
//! ```

#[cfg(not(windows))]
fn main() {
    eprintln!("this one is for Windows; here there is `covefs mount`");
}

#[cfg(windows)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use covefs_cache::{Config, MinFree, Vfs};
    use covefs_mount::{MountOptions, mount};
    use covefs_remote::azure::{Account, AzureConfig, AzureRemote};
    use std::sync::Arc;
    use std::time::Duration;

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [share, mountpoint, cache_dir] = &*arguments else {
        return Err("say SHARE X: CACHE_DIR".into());
    };
    let account =
        Account::from_connection_string(&std::env::var("AZURE_STORAGE_CONNECTION_STRING")?)?;
    let config = Config {
        cache_dir: cache_dir.into(),
        share: share.clone(),
        mountpoint: mountpoint.into(),
        limit_bytes: 1 << 30,
        min_free: MinFree::Percent(5.0),
        max_age: None,
        freshness: Duration::from_secs(10),
        watch: true,
        site: "windows".into(),
        read_only: false,
        sync_share: false,
        timeout: Duration::from_secs(30),
        debounce: Duration::from_secs(3),
        uid: 0,
        gid: 0,
        file_mode: 0o644,
        dir_mode: 0o755,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let vfs = runtime.block_on(async {
        let remote = AzureRemote::new(AzureConfig::new(account, share))?;
        Vfs::start(config, Arc::new(remote)).await.map_err(Box::<dyn std::error::Error>::from)
    })?;
    let options = MountOptions::new(mountpoint, share);
    let mounted = mount(vfs.clone(), runtime.handle().clone(), &options)?;
    println!("{share} is mounted at {mountpoint}; Enter unmounts it");
    std::io::stdin().read_line(&mut String::new())?;
    mounted.unmounter().unmount();
    mounted.wait()?;
    runtime.block_on(vfs.shutdown());
    Ok(())
}
