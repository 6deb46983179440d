//! The example in C: compiled through the installed pkg-config file against both libraries, run, run under valgrind and under
//! the compiler's own sanitizers.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where cargo put the libraries: beside this test, or one folder up.
fn build() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let mut folders = test.ancestors().skip(1).take(2);
    folders.find(|folder| folder.join("libdraftpick_c.so").exists()).expect("no libraries were built").to_owned()
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Whether a program is there; says so if not.
fn is_there(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        println!("skipped: there is no {program}");
    }
    there
}

/// A prefix of its own, with everything installed.
fn installed(name: &str) -> PathBuf {
    let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    succeeds(Command::new(root().join("install.sh")).arg(build()).arg(&prefix).env_remove("DESTDIR"));
    prefix
}

fn pkg_config(prefix: &Path, questions: &[&str]) -> Vec<String> {
    let mut command = Command::new("pkg-config");
    command.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")).args(questions).arg("draftpick");
    succeeds(&mut command).split_whitespace().map(String::from).collect()
}

/// The example, compiled with these flags after it.
fn compiled(prefix: &Path, name: &str, flags: &[String]) -> PathBuf {
    let program = prefix.join(name);
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-g", "-o"]).arg(&program);
    succeeds(cc.arg(root().join("examples/select.c")).args(flags).arg("-lm"));
    program
}

fn example(program: &Path, prefix: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", prefix.join("lib"));
    command
}

/// What the example prints, in part.
#[track_caller]
fn check(output: &str) {
    let lines = [
        "alpha* 0.8600, acceptance 0.8600",
        "refused: draft 1 is token 3, which has probability 0",
        "chains: 1 2 5 | 3 4 -1",
        "tree 1: node",
        "coins tossed",
    ];
    for line in lines {
        assert!(output.contains(line), "{line:?} is not in {output}");
    }
}

#[test]
fn the_example_runs() {
    if !is_there("cc") || !is_there("pkg-config") {
        return;
    }
    let prefix = installed("prefix");
    assert_eq!(pkg_config(&prefix, &["--modversion"]), [env!("CARGO_PKG_VERSION")]);
    let flags = pkg_config(&prefix, &["--cflags", "--libs"]);
    let shared = compiled(&prefix, "select-shared", &flags);
    let output = succeeds(&mut example(&shared, &prefix));
    check(&output);

    // It asks for the library by the version of the interface, which is what was installed.
    let needed = std::fs::read(&shared).unwrap();
    let soname = format!("libdraftpick_c.so.{}\0", draftpick_c::ffi::DRAFTPICK_ABI_VERSION);
    assert!(needed.windows(soname.len()).any(|window| window == soname.as_bytes()), "{soname} is not what it needs");

    let mut flags = pkg_config(&prefix, &["--cflags", "--libs", "--static"]);
    let library = format!("{}/lib/libdraftpick_c.a", prefix.display());
    flags.iter_mut().filter(|flag| *flag == "-ldraftpick_c").for_each(|flag| flag.clone_from(&library));
    let linked = compiled(&prefix, "select-static", &flags);
    assert_eq!(output, succeeds(&mut Command::new(&linked)), "shared and static library differ");

    if is_there("valgrind") {
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--quiet", "--error-exitcode=99", "--leak-check=full", "--errors-for-leak-kinds=definite"]);
        assert_eq!(output, succeeds(valgrind.arg(&linked)));
    }
}

#[test]
fn the_example_runs_under_sanitizers() {
    if !is_there("cc") || !is_there("pkg-config") {
        return;
    }
    let prefix = installed("prefix-sanitized");
    let probe = prefix.join("probe.c");
    std::fs::write(&probe, "int main(void) { return 0; }\n").unwrap();
    let sanitize = "-fsanitize=address,undefined";
    let tried = Command::new("cc").arg(sanitize).arg(&probe).arg("-o").arg(prefix.join("probe")).output().unwrap();
    if !tried.status.success() {
        println!("skipped: this compiler has no {sanitize}");
        return;
    }
    let mut flags = pkg_config(&prefix, &["--cflags", "--libs"]);
    flags.extend([sanitize, "-fno-sanitize-recover=all"].map(String::from));
    let program = compiled(&prefix, "select-sanitized", &flags);
    check(&succeeds(&mut example(&program, &prefix)));
}

/// The header is one for C++ too.
#[test]
fn the_header_is_cpp() {
    if !is_there("c++") {
        return;
    }
    let mut cpp = Command::new("c++");
    cpp.args(["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c++"]);
    succeeds(cpp.arg(root().join("include/draftpick.h")));
}
