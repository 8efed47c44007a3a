//! Precedence of settings: flag over environment over file over default.

use clap::{Command, FromArgMatches};

use super::*;

fn load(args: &[&str]) -> Result<Loaded, String> {
    let command = ServeArgs::augment_args(Command::new("serve").no_binary_name(true));
    let matches = command.try_get_matches_from(args).map_err(|e| e.to_string())?;
    ServeArgs::from_arg_matches(&matches).map_err(|e| e.to_string())?.load()
}

fn file(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("millrace.toml");
    std::fs::write(&path, text).expect("the file is written");
    let path = path.display().to_string();
    (dir, path)
}

fn source_of(loaded: &Loaded, name: &str) -> Source {
    loaded.shown.iter().find(|s| s.name == name).expect("a setting of this name").source
}

#[test]
fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
    let (_dir, path) = file("listen = \"127.0.0.1:9000\"\nfronts = 3\nsegment-bytes = \"64MiB\"\n");
    let loaded = load(&["--config", &path, "--fronts", "7"]).expect("valid settings");
    assert_eq!(loaded.settings.fronts, 7);
    assert_eq!(loaded.settings.listen.port(), 9000);
    assert_eq!(loaded.settings.segment_bytes, ByteSize(64 << 20));
    assert_eq!(source_of(&loaded, "fronts"), Source::Flag("--fronts"));
    assert_eq!(source_of(&loaded, "listen"), Source::File);
    assert_eq!(source_of(&loaded, "data"), Source::Default);
}

#[test]
fn an_unknown_key_is_refused_with_the_known_ones() {
    let (_dir, path) = file("lisen = \"127.0.0.1:9000\"\n");
    let error = load(&["--config", &path]).expect_err("an unknown key");
    assert!(error.contains("lisen") && error.contains("`listen`") && error.contains("`log-bytes-max`"), "{error}");
}

#[test]
fn switches_may_be_given_bare_or_with_a_value() {
    assert!(load(&["--insecure"]).expect("valid").settings.insecure);
    assert!(!load(&["--insecure=false"]).expect("valid").settings.insecure);
    assert!(!load(&[]).expect("valid").settings.insecure);
}

#[test]
fn only_loopback_needs_no_permission() {
    assert!(load(&["--listen", "[::1]:1"]).expect("valid").settings.check().is_ok());
    let open = load(&["--listen", "0.0.0.0:8080"]).expect("valid").settings;
    assert!(open.check().expect_err("open to all").contains("--insecure"));
    assert!(load(&["--listen", "0.0.0.0:8080", "--insecure"]).expect("valid").settings.check().is_ok());
}

#[test]
fn a_root_token_makes_tokens_required_and_is_never_shown() {
    let secret = "a-root-token-of-the-tests";
    let loaded = load(&["--root-token", secret]).expect("valid");
    assert_eq!(loaded.settings.root_token.get(), Some(secret));
    assert!(loaded.settings.requires_tokens() && !load(&[]).expect("valid").settings.requires_tokens());
    let printed: String = loaded.shown.iter().map(|s| format!("{s}\n")).collect();
    assert!(printed.contains("root-token = \"***\""), "{printed}");
    assert!(!printed.contains(secret) && !format!("{loaded:?}").contains(secret));
    let (_dir, path) = file(&format!("{secret}\n"));
    assert_eq!(load(&["--root-token-file", &path]).expect("valid").settings.root_token.get(), Some(secret));
    for bad in ["short", "has a blank in its middle", "***"] {
        let error = load(&["--root-token", bad]).expect_err("not a root token");
        assert!(error.contains("16 to 512") && !error.contains(bad), "{error}");
        let (_dir, path) = file(bad);
        let error = load(&["--root-token-file", &path]).expect_err("not a root token");
        assert!(error.contains("16 to 512") && !error.contains(bad), "{error}");
    }
    assert!(load(&["--root-token-file", "/nowhere/at-all"]).expect_err("no file").contains("/nowhere/at-all"));
    assert!(load(&["--root-token", secret, "--root-token-file", &path]).expect_err("both").contains("one of them"));
}

#[test]
fn tokens_are_required_as_address_and_choice_say() {
    for (args, expected) in [
        (&["--auth", "required"][..], true),
        (&["--listen", "0.0.0.0:80"], true),
        (&["--listen", "0.0.0.0:80", "--insecure"], false),
        (&["--listen", "0.0.0.0:80", "--insecure", "--auth", "required"], true),
        (&["--auth", "off"], false),
    ] {
        assert_eq!(load(args).expect("valid").settings.requires_tokens(), expected, "{args:?}");
    }
    for (args, expected) in [
        (&["--auth", "required"][..], true),
        (&["--listen", "0.0.0.0:80", "--insecure"], true),
        (&["--listen", "0.0.0.0:80", "--insecure", "--auth", "required"], false),
        (&["--listen", "0.0.0.0:80", "--insecure", "--auth", "required", "--open-metrics"], true),
    ] {
        assert_eq!(load(args).expect("valid").settings.opens_metrics(), expected, "{args:?}");
    }
    let both = load(&["--auth", "off", "--root-token", "a-root-token-of-the-tests"]).expect("valid").settings;
    assert!(both.check().expect_err("contradiction").contains("auth"));
}

#[test]
fn what_is_printed_is_a_settings_file() {
    let printed: String =
        load(&["--driver", "threads"]).expect("valid").shown.iter().map(|s| format!("{s}\n")).collect();
    let (_dir, path) = file(&printed);
    let again = load(&["--config", &path]).expect("valid settings");
    assert_eq!(again.settings.driver, DriverChoice::Threads);
}
