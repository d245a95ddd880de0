//! Generates WinFsp's bindings from the headers that the published winfsp-sys brings, for a target that
//! its own build script does not know.
use std::{env, path::PathBuf};

fn main() {
    let root = env::var("WINFSP_ROOT").expect("WINFSP_ROOT: the folder holding inc/ and lib/");
    let root = PathBuf::from(root);
    println!("cargo:rerun-if-env-changed=WINFSP_ROOT");
    let late = env::var("WINE_DLLS").expect("WINE_DLLS: the folder holding libwinfsp-late.a");
    println!("cargo:rustc-link-search={late}");
    println!("cargo:rustc-link-lib=dylib=winfsp-late");
    println!("cargo:rustc-link-lib=dylib=delayimp");
    let headers = ["winfsp/winfsp.h", "winfsp/fsctl.h", "winfsp/launch.h"];
    let text: String = headers.iter().map(|name| format!("#include <{name}>\n")).collect();
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    bindgen::builder()
        .header_contents("gen.h", &text)
        .clang_arg(format!("-I{}", root.join("inc").display()))
        .clang_arg("-DUNICODE")
        .derive_default(true)
        .allowlist_function("Fsp.*")
        .allowlist_type("FSP.*")
        .allowlist_type("Fsp.*")
        .allowlist_var("FSP_.*")
        .allowlist_var("Fsp.*")
        .allowlist_var("CTL_CODE")
        .blocklist_type("_?P?IMAGE_TLS_DIRECTORY.*")
        .generate()
        .expect("the headers are WinFsp's")
        .write_to_file(out.join("bindings.rs"))
        .expect("the output folder can be written");
}
