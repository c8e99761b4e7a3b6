//! `danelaw tlsa`: records equal to those of other tools, verdicts with their exit status, and errors that name the
//! expected input.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use crate::certificates::{
    self, DIGITAL_SIGNATURE, KEY_CERT_SIGN, Spec, authority, cn, dns_names, key, key_usage, pem, tlsa,
};
use crate::lab::certs::Identity;
use crate::lab::free_port;
use crate::lab::mx::{Act, Mx, Seen, say};
use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::CertificateDer;
use serde_json::Value;

/// Files for one test.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn chain(&self, name: &str, chain: &[CertificateDer<'_>]) -> PathBuf {
        self.write(name, &chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect::<String>())
    }
}

/// The output of a program, which has to succeed.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn danelaw(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_danelaw")).arg("tlsa").args(arguments).output().unwrap()
}

/// Standard output and exit status.
fn said(arguments: &[&str]) -> (String, i32) {
    let output = danelaw(arguments);
    (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
}

/// The records of zone file lines, in one spelling.
fn records(zone: &str) -> Vec<String> {
    let lines = zone.lines().filter_map(|line| line.split_once(" TLSA "));
    lines
        .map(|(owner, data)| {
            assert_eq!(owner, "_25._tcp.mx.example.com. IN");
            let words: Vec<_> = data.trim_matches(['(', ')', ' ']).split(' ').collect();
            let numbers: Vec<u8> = words[..3].iter().map(|number| number.parse().unwrap()).collect();
            format!("{} {} {} {}", numbers[0], numbers[1], numbers[2], words[3].to_uppercase())
        })
        .collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The TLSA data that openssl makes of the certificate, step by step.
fn by_openssl(form: [&str; 3], certificate: &Path, files: &Files) -> String {
    let der = files.0.path().join("selected.der");
    let (certificate, out) = (text(certificate), text(&der));
    match form[1] {
        "0" => run("openssl", &["x509", "-in", certificate, "-outform", "DER", "-out", out]),
        _ => {
            let key = files.write("key.pem", &run("openssl", &["x509", "-in", certificate, "-noout", "-pubkey"]));
            run("openssl", &["pkey", "-pubin", "-in", text(&key), "-outform", "DER", "-out", out])
        }
    };
    let data = match form[2] {
        "0" => certificates::hex(&fs::read(&der).unwrap()),
        digest => {
            let digest = if digest == "1" { "-sha256" } else { "-sha512" };
            let line = run("openssl", &["dgst", "-r", digest, out]);
            line.split(' ').next().unwrap().to_uppercase()
        }
    };
    format!("{} {data}", form.join(" "))
}

fn by_danetool(form: [&str; 3], certificate: &Path) -> Option<String> {
    let hash = match form[2] {
        "1" => "sha256",
        "2" => "sha512",
        _ => return None,
    };
    let mut arguments = vec!["--tlsa-rr", "--host", "mx.example.com", "--port", "25", "--hash", hash];
    arguments.extend(["--load-certificate", text(certificate)]);
    arguments.extend((form[0] == "2").then_some("--ca"));
    arguments.extend((form[1] == "0").then_some("--x509"));
    records(&run("danetool", &arguments)).pop()
}

fn by_hash_slinger(form: [&str; 3], certificate: &Path) -> String {
    let [usage, selector, matching] = form;
    let arguments = ["--create", "--port", "25", "-u", usage, "-s", selector, "-m", matching, "--certificate"];
    let zone = run("tlsa", &[&arguments[..], &[text(certificate), "mx.example.com"]].concat());
    records(&zone).pop().unwrap()
}

#[test]
fn the_same_records_as_openssl_danetool_and_hash_slinger() {
    let files = Files::new();
    for kind in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519, &rcgen::PKCS_RSA_SHA256] {
        let own = KeyPair::generate_for(kind).unwrap();
        let certificate = Spec::default().issue_for(&own.subject_public_key_info(), &key());
        let path = files.chain("certificate.pem", &[certificate]);
        for form in ["2 0 0", "2 0 1", "2 0 2", "2 1 0", "2 1 1", "2 1 2"]
            .into_iter()
            .chain(["3 0 0", "3 0 1", "3 0 2", "3 1 0", "3 1 1", "3 1 2"])
        {
            let form: [&str; 3] = form.split(' ').collect::<Vec<_>>().try_into().unwrap();
            let [usage, selector, matching] = form;
            let arguments = ["generate", text(&path), "--host", "mx.example.com", "--usage", usage];
            let (zone, status) = said(&[&arguments[..], &["--selector", selector, "--matching", matching]].concat());
            assert_eq!(status, 0);
            let ours = records(&zone);
            assert_eq!(ours, [by_openssl(form, &path, &files)]);
            assert_eq!(ours, [by_hash_slinger(form, &path)]);
            if let Some(theirs) = by_danetool(form, &path) {
                assert_eq!(ours, [theirs]);
            }
        }
    }
}

/// Server, intermediate authority and root, all good, and the server's key.
fn chain() -> (Vec<CertificateDer<'static>>, [KeyPair; 3]) {
    let keys = [key(), key(), key()];
    let [own, inter, root] = &keys;
    let chain = vec![
        Spec { issuer: cn("Inter"), ..Spec::default() }.issue(own, inter),
        Spec::authority("Inter", "Root").issue(inter, root),
        Spec::authority("Root", "Root").issue(root, root),
    ];
    (chain, keys)
}

#[test]
fn a_chain_gives_the_servers_key_and_its_issuers() {
    let files = Files::new();
    let (chain, [own, inter, _]) = chain();
    let server = tlsa("3 1 1", &chain[0], &own.subject_public_key_info());
    let issuer = tlsa("2 1 1", &chain[1], &inter.subject_public_key_info());
    // The authorities may stand in the file in any order.
    let shuffled = [chain[0].clone(), chain[2].clone(), chain[1].clone()];
    for certificates in [&chain[..], &chain[..2], &shuffled] {
        let path = files.chain("chain.pem", certificates);
        let (zone, status) = said(&["generate", text(&path), "--host", "mx.example.com"]);
        assert_eq!((records(&zone), status), (vec![server.clone(), issuer.clone()], 0));
        assert!(zone.contains("; the issuing authority \"Inter\"; the server must send its certificate\n"), "{zone}");
        let (zone, _) = said(&["generate", text(&path), "--host", "mx.example.com", "--usage", "2"]);
        assert_eq!(records(&zone), std::slice::from_ref(&issuer));
    }
    // Without a host: the data alone, as --record takes it. Without the issuer: the server's key alone.
    let path = files.chain("chain.pem", &[chain[0].clone(), chain[2].clone()]);
    let (plain, _) = said(&["generate", text(&path)]);
    assert_eq!(plain, format!("; the server itself \"A mail server\"\n{server}\n"));
    // A public key, with the private key and its parameters in the same file.
    let key = [pem("EC PARAMETERS", &[5, 0]), own.serialize_pem(), own.public_key_pem()].concat();
    let path = files.write("key.pem", &key);
    let (plain, _) = said(&["generate", text(&path)]);
    assert_eq!(plain, format!("; the server itself\n{server}\n"));
    let (port, _) = said(&["generate", text(&path), "--host", "MX.bücher.example.", "--port", "465"]);
    assert!(port.contains("\n_465._tcp.mx.xn--bcher-kva.example. IN TLSA 3 1 1 "), "{port}");
}

#[test]
fn a_file_that_begins_with_an_authority_is_recognised() {
    let files = Files::new();
    let (chain, [own, inter, root]) = chain();
    let server = tlsa("3 1 1", &chain[0], &own.subject_public_key_info());
    let issuer = tlsa("2 1 1", &chain[1], &inter.subject_public_key_info());
    let top = tlsa("2 1 1", &chain[2], &root.subject_public_key_info());
    for order in [[2, 1, 0], [1, 2, 0], [1, 0, 2], [2, 0, 1]] {
        let path = files.chain("chain.pem", &order.map(|place| chain[place].clone()));
        // The root has issued the intermediate authority, wherever that stands.
        let output = danelaw(&["generate", text(&path), "--host", "mx.example.com"]);
        let (zone, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(records(&zone), [server.clone(), issuer.clone()], "{order:?}");
        let number = order.iter().position(|place| *place == 0).unwrap() + 1;
        assert!(said.contains(&format!("the server's own is number {number}, \"A mail server\"")), "{said}");
    }
    // Authorities alone: the lowest one issues the server's certificate.
    for (order, record) in [(&[1, 2][..], &issuer), (&[2, 1], &issuer), (&[1], &issuer), (&[2], &top)] {
        let some: Vec<_> = order.iter().map(|place| chain[*place].clone()).collect();
        let path = files.chain("authorities.pem", &some);
        let (zone, status) = said(&["generate", text(&path), "--host", "mx.example.com"]);
        assert_eq!((records(&zone), status), (vec![record.clone()], 0), "{order:?}");
    }
    // Two servers of one authority behind it.
    let twin = Spec { issuer: cn("Inter"), ..Spec::default() }.issue(&key(), &inter);
    let path = files.chain("twins.pem", &[chain[1].clone(), chain[0].clone(), twin]);
    let output = danelaw(&["generate", text(&path)]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(64) && error.contains("put that first"), "{error}");
    // The key alone has no name.
    let path = files.chain("chain.pem", &chain);
    let (zone, status) = said(&["generate", text(&path), "--usage", "3", "--host", "other.example"]);
    assert!(status == 0 && zone.contains("_25._tcp.other.example. IN TLSA 3 1 1 "), "{zone}");
}

#[test]
fn a_certificate_that_signs_others_is_an_authoritys_unless_it_is_the_hosts() {
    let files = Files::new();
    let root = key();
    let marked = |usage: Option<u8>, names: &[&str]| {
        let mut extensions = vec![authority()];
        extensions.extend(usage.map(key_usage));
        extensions.extend((!names.is_empty()).then(|| dns_names(names)));
        let spec = Spec { extensions, ..Spec::authority("Root", "Root") };
        files.chain("root.pem", &[spec.issue(&root, &root)])
    };
    let mx = "mx.example.com";
    for (usage, names, host, record, is_doubtful) in [
        (None, &[][..], Some(mx), "2 1 1", false),
        (None, &[], None, "2 1 1", false),
        (Some(KEY_CERT_SIGN), &[], Some(mx), "2 1 1", false),
        (Some(KEY_CERT_SIGN), &[], None, "2 1 1", false),
        (Some(KEY_CERT_SIGN), &["ca.example.com"], Some(mx), "2 1 1", false),
        // As openssl makes it for a server.
        (None, &[mx], Some(mx), "3 1 1", false),
        (None, &["*.example.com"], Some(mx), "3 1 1", false),
        // It may be either.
        (Some(KEY_CERT_SIGN | DIGITAL_SIGNATURE), &[mx], Some(mx), "3 1 1", true),
        (None, &["other.example"], Some(mx), "3 1 1", true),
        (None, &[mx], None, "3 1 1", true),
    ] {
        let path = marked(usage, names);
        let mut arguments = vec!["generate", text(&path)];
        arguments.extend(host.iter().flat_map(|host| ["--host", *host]));
        let output = danelaw(&arguments);
        let (zone, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        let line = zone.lines().nth(1).unwrap();
        assert!(line.contains(record) && zone.lines().count() == 2, "{usage:?} {names:?} {host:?}: {zone}");
        assert_eq!(said.contains("is self-signed and marked as an authority's"), is_doubtful, "{names:?}: {said}");
        assert_eq!(said.is_empty(), !is_doubtful, "{said}");
    }
    // The operator's word ends the doubt.
    let path = marked(None, &["other.example"]);
    for usage in ["2", "3"] {
        let output = danelaw(&["generate", text(&path), "--host", mx, "--usage", usage]);
        assert!(
            output.stderr.is_empty() && String::from_utf8(output.stdout).unwrap().contains(&format!("{usage} 1 1"))
        );
    }
}

#[test]
fn a_certificate_that_the_parser_would_pass_over_is_refused() {
    let files = Files::new();
    let (chain, _) = chain();
    let [server, inter, _] = [0, 1, 2].map(|place| pem("CERTIFICATE", &chain[place]));
    let digest = &tlsa("3 1 1", b"", b"");
    // A mark that no editor shows is no fault.
    let marked = files.write("marked.pem", &format!("\u{feff}{server}{inter}"));
    assert_eq!(said(&["generate", text(&marked)]), said(&["generate", text(&files.chain("chain.pem", &chain[..2]))]));
    let text_before = server.replacen('\n', "\r\n", 1);
    let bag = format!("Bag Attributes: <Empty>\n-- the first BEGIN of two\nsubject=CN = x\n\n{text_before}{inter}");
    assert!(said(&["generate", text(&files.write("bag.pem", &bag))]).0.contains("the server itself"));
    let elsewhere =
        "expected -----BEGIN with five dashes, in capitals, at the start of the line, and nothing before it";
    let form = |label: &str| server.replace(" CERTIFICATE-", &format!(" {label}-"));
    for (name, content, why) in [
        ("blank", format!(" {server}{inter}"), format!("line 1: {elsewhere}")),
        ("tab", format!("\t{server}{inter}"), format!("line 1: {elsewhere}")),
        ("hard-blank", format!("\u{a0}{server}{inter}"), format!("line 1: {elsewhere}")),
        ("words", format!("the server\ncertificate: {server}{inter}"), format!("line 2: {elsewhere}")),
        ("second-mark", format!("# mine\n\u{feff}{server}{inter}"), format!("line 2: {elsewhere}")),
        // Two files in one, of which the first has no line end.
        ("joined", format!("{}{inter}", server.trim_end()), format!("line {}: {elsewhere}", server.lines().count())),
        ("dashes", server.replacen("-----B", "----B", 1) + &inter, format!("line 1: {elsewhere}")),
        ("gap", server.replacen("-----B", "----- B", 1) + &inter, format!("line 1: {elsewhere}")),
        ("long-dashes", server.replacen("-----B", "\u{2014}B", 1) + &inter, format!("line 1: {elsewhere}")),
        ("small", server.replacen("BEGIN", "begin", 1) + &inter, format!("line 1: {elsewhere}")),
        (
            "trusted",
            form("TRUSTED CERTIFICATE") + &inter,
            "line 1: expected BEGIN CERTIFICATE, and found BEGIN TRUSTED ".into(),
        ),
        ("x509", form("X509 CERTIFICATE") + &inter, "convert it with openssl x509 -in FILE".into()),
        ("label", form("CERTIFICATE ") + &inter, "line 1: expected BEGIN CERTIFICATE".into()),
        ("pkcs7", form("PKCS7") + &inter, "convert it with openssl pkcs7 -in FILE -print_certs".into()),
    ] {
        let path = files.write(&format!("{name}.pem"), &content);
        for arguments in [vec!["generate", text(&path)], vec!["verify", "--chain", text(&path), "--record", digest]] {
            let output = danelaw(&arguments);
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(64), "{name}: {error}");
            assert!(
                error.starts_with(&format!("danelaw: {}: ", text(&path))) && error.contains(&why),
                "{name}: {error}"
            );
            assert!(output.stdout.is_empty(), "{name}");
        }
    }
}

#[test]
fn files_of_other_tools_have_their_conversion() {
    let files = Files::new();
    let (chain, [own, ..]) = chain();
    let certificate = files.chain("own.pem", &chain[..1]);
    let private = files.write("key.pem", &own.serialize_pem());
    let at = |name: &str| files.0.path().join(name).to_str().unwrap().to_owned();
    let [p12, p7] = ["own.p12", "own.p7b"].map(at);
    run(
        "openssl",
        &["pkcs12", "-export", "-in", text(&certificate), "-inkey", text(&private), "-passout", "pass:x", "-out", &p12],
    );
    run("openssl", &["crl2pkcs7", "-nocrl", "-certfile", text(&certificate), "-outform", "DER", "-out", &p7]);
    let utf16: Vec<u8> = pem("CERTIFICATE", &chain[0]).encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(at("utf16.pem"), [&[0xff, 0xfe][..], &utf16].concat()).unwrap();
    fs::write(at("own.der"), &chain[0]).unwrap();
    for (name, why) in [
        ("own.p12", "and found PKCS#12; convert it with openssl pkcs12 -in FILE -nokeys"),
        ("own.p7b", "and found PKCS#7; convert it with openssl pkcs7 -inform DER"),
        ("own.der", "and found DER; convert it with openssl x509 -inform DER"),
        ("utf16.pem", "and found UTF-16; save it as UTF-8"),
    ] {
        let output = danelaw(&["generate", &at(name)]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(64) && error.contains(why), "{name}: {error}");
    }
    // Each of the conversions gives a file that is read.
    let record = said(&["generate", text(&certificate)]);
    for arguments in [
        &["pkcs12", "-in", &p12, "-nokeys", "-passin", "pass:x"][..],
        &["pkcs7", "-inform", "DER", "-in", &p7, "-print_certs"],
        &["x509", "-inform", "DER", "-in", &at("own.der")],
    ] {
        let converted = files.write("converted.pem", &run("openssl", arguments));
        assert_eq!(said(&["generate", text(&converted)]), record, "{arguments:?}");
    }
}

#[test]
fn an_rsa_key_that_is_refused_is_warned_of() {
    let files = Files::new();
    for (bits, is_refused) in [(1024, true), (2048, false)] {
        let path = files.write("key.pem", &pem("PUBLIC KEY", &certificates::rsa_spki(bits)));
        let output = danelaw(&["generate", text(&path)]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), said.contains(&format!("the RSA key has {bits} bits"))),
            (Some(0), is_refused)
        );
    }
}

#[test]
fn the_lines_of_a_zone_are_records() {
    let files = Files::new();
    let (chain, _) = chain();
    let path = files.chain("chain.pem", &chain);
    let zone = said(&["generate", text(&path), "--host", "mx.example.com"]).0;
    let lines: Vec<_> = zone.lines().filter(|line| line.contains(" IN TLSA ")).collect();
    let in_brackets = lines[0].replace(" TLSA ", " 3600 TLSA ( ") + " ) ; mine";
    for record in [lines[0], lines[1], &in_brackets, &zone.lines().take(2).collect::<Vec<_>>().join("\n")] {
        let (printed, status) = verdict(&["--chain", text(&path), "--record", record, "--name", "mx.example.com"]);
        assert_eq!((status, &printed["verdict"]), (0, &"match".into()), "{record}: {printed}");
    }
    // Two at once are none.
    assert_eq!(said(&["verify", "--chain", text(&path), "--record", &zone]).1, 64);
}

#[test]
fn records_as_json() {
    let files = Files::new();
    let (chain, [own, inter, _]) = chain();
    let path = files.chain("chain.pem", &chain);
    let (printed, _) = said(&["generate", text(&path), "--host", "mx.example.com", "--matching", "2", "--json"]);
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed["owner"], "_25._tcp.mx.example.com.");
    for (index, usage, record) in [
        (0, 3, tlsa("3 1 2", &chain[0], &own.subject_public_key_info())),
        (1, 2, tlsa("2 1 2", &chain[1], &inter.subject_public_key_info())),
    ] {
        let printed = &printed["records"][index];
        let numbers = [&printed["usage"], &printed["selector"], &printed["matching"]].map(|number| number.as_u64());
        assert_eq!(numbers, [Some(usage), Some(1), Some(2)]);
        assert_eq!(printed["record"], record);
        assert_eq!(printed["data"], record[6..]);
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let files = Files::new();
    let (chain, [own, ..]) = chain();
    let good = pem("CERTIFICATE", &chain[0]);
    let chain_file = files.chain("chain.pem", &chain);
    for (name, content, message) in [
        ("empty", "", "and the file is empty"),
        ("words", "hello\n", "expected a certificate or a public key in PEM form"),
        ("der", "0\u{1}\u{2}", "and found DER; convert it"),
        ("cut.pem", &good[..good.len() - 30], "damaged PEM: there is no line END CERTIFICATE"),
        ("base64.pem", &good.replacen("MI", "!!", 1), "damaged PEM: expected base64"),
        ("secret.pem", &own.serialize_pem(), "and found only a private key (openssl pkey -pubout"),
        ("nokey.pem", &pem("CERTIFICATE", b"hello"), "no public key can be read out of it"),
        ("nokey2.pem", &pem("PUBLIC KEY", b"hello"), "no public key can be read out of it"),
    ] {
        let path = files.write(name, content);
        let output = danelaw(&["generate", text(&path)]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{error}");
        assert!(error.starts_with(&format!("danelaw: {}: ", text(&path))) && error.contains(message), "{error}");
    }
    let key = files.write("key.pem", &own.public_key_pem());
    let (chain_file, key) = (text(&chain_file), text(&key));
    let digest = &tlsa("3 1 1", b"", b"");
    let anchor = &tlsa("2 1 1", b"", b"");
    for (arguments, message) in [
        (vec!["generate", "/nowhere.pem"], "/nowhere.pem: cannot be read: No such file"),
        (vec!["generate", key, "--selector", "0"], "key.pem: selector 0 is about a certificate"),
        (vec!["generate", chain_file, "--usage", "1"], "certificate usages 0 and 1 rely on public authorities"),
        (vec!["generate", chain_file, "--usage", "x"], "expected 2 (DANE-TA"),
        (vec!["generate", chain_file, "--selector", "2"], "expected 0 (the whole certificate)"),
        (vec!["generate", chain_file, "--matching", "3"], "expected 0 (in full)"),
        (vec!["generate", chain_file, "--host", "a b"], "it has a character outside letters"),
        (vec!["generate", chain_file, "--port", "0"], "--port"),
        (vec!["verify", "--chain", key, "--record", digest], "key.pem: holds a public key; expected the certificates"),
        (
            vec!["verify", "--chain", chain_file, "--record", "3 1 1 xyz"],
            "as in \"3 1 1 8CB0..\", or its line in a zone, as in \"_25._tcp.mx.example.com. IN TLSA 3 1 1 8CB0..\"; give",
        ),
        (vec!["verify", "--chain", chain_file, "--record", anchor], "give it with --name"),
        (vec!["verify", "--chain", chain_file], "--record"),
        // Both ways to name the server.
        (vec!["verify", "--record", digest], "<--chain <FILE>|--connect <HOST:PORT>>"),
        (vec!["verify", chain_file, "--record", digest], "<--chain <FILE>|--connect <HOST:PORT>>"),
        (
            vec!["verify", "--chain", chain_file, "--connect", "mx.example.com", "--record", digest],
            "--connect <HOST:PORT>",
        ),
        // Under usage 2 a client looks for the name.
        (vec!["generate", chain_file, "--host", "other.example"], "is for mx.example.com, and not for other.example"),
        (vec!["generate", chain_file, "--host", "other.example", "--usage", "2"], "with --usage 3"),
        (vec!["verify", "--chain", chain_file, "--record", digest, "--at", "today"], "write day and time as in 2026"),
        (vec!["verify", "--connect", "mx.example.com:smtp", "--record", digest], "expected a port"),
    ] {
        let output = danelaw(&arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {error}");
        assert!(error.contains(message), "{arguments:?}: {error}");
    }
}

/// The verdict as JSON, and the exit status.
fn verdict(arguments: &[&str]) -> (Value, i32) {
    let output = danelaw(&[&["verify", "--json"], arguments].concat());
    let printed = serde_json::from_slice(&output.stdout);
    (printed.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))), output.status.code().unwrap())
}

#[test]
fn verdicts_on_a_chain() {
    let files = Files::new();
    let (chain, [own, inter, root]) = chain();
    let path = files.chain("chain.pem", &chain);
    let chain_file = text(&path);
    let server = &tlsa("3 1 1", &chain[0], &own.subject_public_key_info());
    let stranger = &tlsa("3 1 1", b"", b"");
    let issuer = &tlsa("2 1 1", &chain[1], &inter.subject_public_key_info());
    let top = &tlsa("2 0 1", &chain[2], &root.subject_public_key_info());
    let strong = &tlsa("3 1 2", b"", b"");
    let (mx, evil) = ("mx.example.com", "evil.example");
    for (records, names, status, expected) in [
        (vec![server], vec![], 0, ("depth", Value::from(0))),
        (vec![server], vec![evil], 0, ("record", server.as_str().into())),
        (vec![stranger, server], vec![], 0, ("record", server.as_str().into())),
        (vec![issuer], vec![mx], 0, ("depth", 1.into())),
        (vec![top, stranger], vec![evil, mx], 0, ("depth", 2.into())),
        (vec![stranger], vec![], 1, ("reason", "tlsa-mismatch".into())),
        (vec![top], vec![evil], 1, ("reason", "name-mismatch".into())),
        // RFC 7671 §9.
        (vec![server, strong], vec![], 1, ("reason", "tlsa-mismatch".into())),
    ] {
        let mut arguments = vec!["--chain", chain_file];
        arguments.extend(records.iter().flat_map(|record| ["--record", record.as_str()]));
        arguments.extend(names.iter().flat_map(|name| ["--name", *name]));
        let (printed, exit) = verdict(&arguments);
        assert_eq!(exit, status, "{printed}");
        assert_eq!(printed[expected.0], expected.1, "{printed}");
        assert_eq!(printed["verdict"], if status == 0 { "match" } else { "mismatch" });
    }
    let (printed, _) = verdict(&["--chain", chain_file, "--record", server, "--record", strong]);
    assert_eq!(printed["set_aside"][0], server.as_str());
    // Unusable records are listed with their reason, and decide no verdict.
    let pkix = &server.replacen('3', "1", 1);
    let short = "3 1 1 ABCD";
    let (printed, status) = verdict(&["--chain", chain_file, "--record", pkix, "--record", short]);
    assert_eq!((status, &printed["verdict"]), (3, &Value::from("unusable")));
    assert_eq!(printed["unusable"][0]["record"], pkix.as_str());
    assert_eq!(printed["unusable"][1]["why"], "the digest has 2 octets instead of 32");
    let (printed, status) = verdict(&["--chain", chain_file, "--record", pkix, "--record", server]);
    assert_eq!((status, &printed["unusable"][0]["record"]), (0, &Value::from(pkix.as_str())));
}

#[test]
fn verdicts_at_another_time() {
    let files = Files::new();
    let (own, root) = (key(), key());
    let dated = Spec { not_before: "20230101000000Z", not_after: "20240101000000Z", ..Spec::default() };
    let chain = [dated.issue(&own, &root), Spec::authority("Root", "Root").issue(&root, &root)];
    let path = files.chain("chain.pem", &chain);
    let anchor = &tlsa("2 1 1", &chain[1], &root.subject_public_key_info());
    for (at, reason) in [
        ("2023-06-01T00:00:00Z", None),
        ("2023-01-01T01:00:00+02:00", Some("certificate-not-yet-valid")),
        ("2022-12-31T23:59:59Z", Some("certificate-not-yet-valid")),
        ("2024-01-01T00:00:01Z", Some("certificate-expired")),
    ] {
        let arguments = ["--chain", text(&path), "--record", anchor, "--name", "mx.example.com", "--at", at];
        let (printed, status) = verdict(&arguments);
        assert_eq!((printed["reason"].as_str(), status), (reason, i32::from(reason.is_some())), "{at}");
    }
    let (plain, status) = said(&["verify", "--chain", text(&path), "--record", anchor, "--name", "mx.example.com"]);
    assert_eq!(status, 1);
    assert_eq!(plain, "verdict: mismatch\nreason: certificate-expired\ntext: the server's certificate has expired\n");
}

#[test]
fn help_tells_the_exit_status() {
    let (help, _) = said(&["verify", "--help"]);
    for line in
        ["0   a record matches", "1   the server is not", "3   none of the records", "4   no TLS", "64  bad input"]
    {
        assert!(help.contains(line), "{help}");
    }
}

/// Starts a mail server on a port of its own and returns where it is.
async fn serve(change: impl FnOnce(&mut Mx)) -> (String, Arc<Seen>) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let mut mx = Mx::new(Identity::under_ca("mx.example.com"));
    change(&mut mx);
    (address.to_string(), mx.start(address, "mx.example.com").await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verdicts_on_a_live_server() {
    let identity = Identity::under_ca("mx.example.com");
    let [server, top] = ["3 1 1", "2 1 1"].map(|form| identity.record(form).to_uppercase());
    let (server, top, stranger) = (server.as_str(), top.as_str(), &tlsa("3 1 1", b"", b""));
    let pkix = &server.replacen('3', "1", 1);
    let own = |mx: &mut Mx| mx.identity = identity.clone();
    let judge = async |address: &str, arguments: &[&str]| {
        let arguments: Vec<String> = [&["--connect", address, "--set", "hostname=tlsa.test"], arguments]
            .concat()
            .iter()
            .map(|a| (*a).to_owned())
            .collect();
        tokio::task::spawn_blocking(move || verdict(&arguments.iter().map(String::as_str).collect::<Vec<_>>()))
            .await
            .unwrap()
    };
    let (address, seen) = serve(own).await;
    for (arguments, status, expected) in [
        (vec!["--record", server], 0, ("depth", Value::from(0))),
        (vec!["--record", top, "--name", "mx.example.com"], 0, ("depth", 1.into())),
        (vec!["--record", top, "--name", "evil.example"], 1, ("reason", "name-mismatch".into())),
        (vec!["--record", stranger], 1, ("reason", "tlsa-mismatch".into())),
        (vec!["--record", pkix], 3, ("tls_version", "TLSv1.3".into())),
    ] {
        let (printed, exit) = judge(&address, &arguments).await;
        assert_eq!((exit, &printed[expected.0]), (status, &expected.1), "{printed}");
        assert_eq!(printed["server"], address);
    }
    // Three sessions came about; each ended with QUIT, and none saw a mail command.
    assert_eq!(seen.tls(), ["EHLO tlsa.test", "QUIT"].repeat(3));
    assert_eq!(seen.server_names()[0], None);
    assert_eq!(seen.server_names()[1].as_deref(), Some("mx.example.com"));
    type Change<'a> = &'a dyn Fn(&mut Mx);
    let cases: [(Change<'_>, i32, &str); 5] = [
        (&|mx| mx.identity = identity.clone().with_wrong_key(), 1, "wrong-key"),
        (&|mx| mx.ehlo = say("250 mx"), 4, "starttls-missing"),
        (&|mx| mx.starttls = say("454 no"), 4, "starttls-refused"),
        (&|mx| mx.starttls = Act::Say("220 go\r\n250 evil\r\n".into()), 4, "starttls-injected"),
        (&|mx| mx.greeting = say("554 no"), 4, "greeting-refused"),
    ];
    for (change, status, reason) in cases {
        let (address, _) = serve(change).await;
        let (printed, exit) = judge(&address, &["--record", server]).await;
        assert_eq!((exit, &printed["reason"]), (status, &Value::from(reason)), "{printed}");
    }
    let (printed, exit) = judge("127.0.0.1:1", &["--record", server]).await;
    assert_eq!((exit, &printed["reason"]), (4, &Value::from("connect-failed")), "{printed}");
    // Without DNS there is no address, and that is no verdict on the server.
    let dead = ["--record", server, "--set", "dns.servers=[\"127.0.0.1:1\"]", "--set", "dns.deadline=3s"];
    let (printed, exit) = judge("mx.example.com", &dead).await;
    assert_eq!((exit, &printed["reason"]), (4, &Value::from("address-lookup-failed")), "{printed}");
}
