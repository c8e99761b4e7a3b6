//! The caches of the first stage of `config/container/Containerfile`, from one build to the next. A stub takes the place of cargo,
//! since no image of the tests has the real one. The stub writes a line for each of its runs into each cache.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::command::{output, run};
use crate::pod::{podman, with_images};
use crate::program::repository;

const BUILDER: &str = "FROM localhost/postfix:latest\nCOPY --chmod=755 cargo rustc /usr/local/bin/\n";

const RUSTC: &str = "#!/bin/sh\necho 'host: x86_64-unknown-linux-gnu'\n";

/// It fails if a file is older than its last run, which would make the real one take the file for unchanged.
const CARGO: &str = r#"#!/bin/sh
set -e
[ "$*" = "build --locked --profile small --target x86_64-unknown-linux-gnu" ]
[ ! -e .git ]
[ ! -e target/of-the-checkout ]
if [ -e target/last ]; then [ Cargo.toml -nt target/last ]; fi
touch target/last
echo built >>target/builds
echo fetched >>"$CARGO_HOME/registry/fetches"
mkdir -p target/x86_64-unknown-linux-gnu/small
cat Cargo.toml target/builds "$CARGO_HOME/registry/fetches" >target/x86_64-unknown-linux-gnu/small/danelaw
"#;

const IMAGES: [&str; 2] = ["localhost/first-stage-builder", "localhost/first-stage"];

/// The images, which are removed with this value.
struct Images;

impl Drop for Images {
    fn drop(&mut self) {
        let _ = output(podman().args(["rmi", "--force"]).args(IMAGES));
    }
}

/// Builds an image in a folder, with the caches in another one.
fn build(folder: &Path, caches: &Path, arguments: &[&str]) {
    let mut command = with_images("buildah");
    command.args(["build", "--isolation", "chroot", "--format", "docker", "--quiet"]).args(arguments).arg(folder);
    run(command.env("TMPDIR", caches));
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn the_image_is_built_anew_from_caches_and_from_each_file_that_changes() {
    let _images = Images;
    let directory = TempDir::new().unwrap();
    let [builder, checkout, caches] = ["builder", "checkout", "caches"].map(|name| directory.path().join(name));
    for (name, text) in [("Containerfile", BUILDER), ("rustc", RUSTC), ("cargo", CARGO)] {
        write(&builder.join(name), text);
    }
    fs::create_dir(&caches).unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    build(&builder, &caches, &["--tag", IMAGES[0]]);

    write(&checkout.join(".git/HEAD"), "");
    write(&checkout.join("target/of-the-checkout"), "");
    run(Command::new("cp").arg("-a").args([repository("config"), repository(".dockerignore")]).arg(&checkout));
    let built = |manifest: &str| {
        let path = checkout.join("Cargo.toml");
        write(&path, manifest);
        // As the files of an archive are.
        let earlier = SystemTime::now() - Duration::from_secs(1_000_000);
        File::options().write(true).open(path).and_then(|file| file.set_modified(earlier)).unwrap();
        let file = checkout.join("config/container/Containerfile");
        let builder = format!("BUILDER={}", IMAGES[0]);
        build(&checkout, &caches, &["--build-arg", &builder, "--file", file.to_str().unwrap(), "--tag", IMAGES[1]]);
        let mounted = run(podman().args(["image", "mount", IMAGES[1]]));
        let program = fs::read_to_string(Path::new(mounted.trim()).join("usr/bin/danelaw"));
        let _ = output(podman().args(["image", "umount", IMAGES[1]]));
        program.unwrap()
    };
    assert_eq!(built("first\n"), "first\nbuilt\nfetched\n");
    assert_eq!(built("second\n"), "second\nbuilt\nbuilt\nfetched\nfetched\n");
}
