//! On Windows WinFsp is loaded when the first drive is mounted, not when the program starts: see
//! `mount/build.rs`, whose flags are those of its own package only.

fn main() {
    let of_target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}"));
    let dll = match of_target("ARCH").as_deref() {
        Ok("aarch64") => "winfsp-a64.dll",
        _ => "winfsp-x64.dll",
    };
    if of_target("OS").as_deref() == Ok("windows") && of_target("ENV").as_deref() == Ok("msvc") {
        println!("cargo:rustc-link-lib=dylib=delayimp");
        println!("cargo:rustc-link-arg=/DELAYLOAD:{dll}");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
