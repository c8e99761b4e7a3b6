//! Programs of others read a report as it arrives: OpenDKIM and dkimpy verify its signature, parsedmarc reads its content,
//! and so does Stalwart's library with LONG_TESTS=yes.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// dkimpy and parsedmarc, as `tests/real/prepare` installs them.
fn installed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients/report-readers")
}

/// The verdict of OpenDKIM on a mail. Its DNS has this record alone.
fn opendkim(folder: &Path, mail: &[u8], record: &str) -> String {
    let [mail_file, dns, config] = ["mail", "dns", "opendkim.conf"].map(|file| folder.join(file));
    std::fs::write(&mail_file, mail).unwrap();
    std::fs::write(&dns, format!("{KEY} {record}\n")).unwrap();
    std::fs::write(&config, format!("Mode v\nSyslog no\nTestDNSData file:{}\n", dns.display())).unwrap();
    let run = Command::new("opendkim").arg("-x").arg(config).arg("-v").arg("-t").arg(mail_file).output();
    let run = run.expect("tests/run installs opendkim");
    [run.stdout, run.stderr].map(|text| String::from_utf8(text).unwrap()).concat()
}

/// The output of a Python program that has the mail in a file.
fn python(folder: &Path, mail: &[u8], program: &str) -> String {
    assert!(installed().exists(), "tests/real/prepare installs dkimpy and parsedmarc");
    let mail_file = folder.join("mail.eml");
    std::fs::write(&mail_file, mail).unwrap();
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", installed()).env("HOME", folder).arg("-c").arg(program).arg(mail_file);
    let run = python.output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap()
}

fn dkimpy(folder: &Path, mail: &[u8], record: &str) -> bool {
    let program = format!(
        "import dkim, sys\nmail = open(sys.argv[1], 'rb').read()\n\
         print(dkim.verify(mail, dnsfunc=lambda name, timeout=5: b'{record}'))"
    );
    python(folder, mail, &program).trim() == "True"
}

/// The day of the report. It is due at any hour, and the signature is not of a later time than the verifier's.
fn day() -> OffsetDateTime {
    OffsetDateTime::now_utc() - Duration::from_secs(2 * 86_400)
}

/// A report that has arrived.
async fn arrived(sender: &Sender) -> Vec<u8> {
    let (told, mut events) = mpsc::channel(100);
    let lab = sender.scenario("mailto:r@example.test").telling(told).start().await;
    let dispatch = sender.dispatch(&lab, 443).await;
    lab.send().await;
    dispatch.count(&events.recv().await.unwrap(), day());
    round(&dispatch, OffsetDateTime::now_utc()).await;
    lab.mx().messages().remove(0)
}

/// The mail with a header field more, and with another word in its body.
fn altered(mail: &[u8]) -> [Vec<u8>; 2] {
    let text = String::from_utf8(mail.to_vec()).unwrap();
    let [from, body] = ["\r\nFrom: ", " went well, "].map(|part| text.matches(part).count());
    assert_eq!((from, body), (1, 1), "{text}");
    let two_senders = text.replace("\r\nFrom: ", "\r\nFrom: other@example.test\r\nFrom: ");
    [two_senders, text.replace(" went well, ", " went wall, ")].map(String::into_bytes)
}

#[tokio::test]
async fn t46_opendkim_and_dkimpy_accept_the_signature_and_no_alteration() {
    // T46.
    let sender = Sender::new();
    let (mail, folder) = (arrived(&sender).await, sender.folder.path());
    let record = sender.key().record();
    let verdict = opendkim(folder, &mail, &record);
    assert!(verdict.contains("verification (s=tlsrpt, d=sender.example.test, 2048-bit key) succeeded"), "{verdict}");
    // dkimpy 1.1.8 knows no list in s=, which RFC 6376 §3.6.1 allows; the page says that s= may be left out.
    let without_list = record.replace(" s=email:tlsrpt;", "");
    assert!(dkimpy(folder, &mail, &without_list) && !dkimpy(folder, &mail, &record));
    for altered in altered(&mail) {
        let verdict = opendkim(folder, &altered, &record);
        assert!(!verdict.contains("succeeded") && verdict.contains("failed"), "{verdict}");
        assert!(!dkimpy(folder, &altered, &without_list));
    }
}

#[tokio::test]
async fn t45_dkimpy_accepts_the_second_signature_and_the_first() {
    // T45.
    let sender = Sender::new();
    let second = DkimKey::from_pem(new_key(DkimAlgorithm::Ed25519).unwrap().as_bytes()).unwrap();
    let records = [(KEY, &sender.key()), (SECOND_KEY, &second)].map(|(owner, key)| (owner, key.record()));
    let (told, mut events) = mpsc::channel(100);
    let scenario = sender.scenario("mailto:r@example.test").telling(told);
    let record = format!("\"{}\"", records[1].1);
    let lab = scenario.tree(move |tree, _| tree.record(SECOND_KEY, "TXT", &record)).start().await;
    let mut settings = Arc::into_inner(sender.settings(443)).unwrap();
    settings.signers.push(Signer::new("sender.example.test".parse().unwrap(), "tlsrpt-ed25519", second));
    let dispatch = sender.dispatch_with(&lab, watch::channel(Arc::new(settings)).1).await;
    lab.send().await;
    dispatch.count(&events.recv().await.unwrap(), day());
    round(&dispatch, OffsetDateTime::now_utc()).await;
    let (mail, folder) = (lab.mx().messages().remove(0), sender.folder.path());
    let program = "import dkim, sys\nverifier = dkim.DKIM(open(sys.argv[1], 'rb').read())\n\
                   records = {RECORDS}\n\
                   def verdict(place):\n    \
                   try: return verifier.verify(place, dnsfunc=lambda name, timeout=5: records[name.rstrip(b'.')])\n    \
                   except dkim.ValidationError: return False\n\
                   print(verdict(0), verdict(1))";
    let text = |(owner, record): &(&str, String)| format!("b'{owner}': b'{}'", record.replace(" s=email:tlsrpt;", ""));
    let program = program.replace("RECORDS", &records.iter().map(text).collect::<Vec<_>>().join(", "));
    assert_eq!(python(folder, &mail, &program), "True True\n");
    for altered in altered(&mail) {
        assert_eq!(python(folder, &altered, &program), "False False\n");
    }
}

#[tokio::test]
async fn t27_consumers_of_reports_read_it() {
    // T27.
    let sender = Sender::new();
    let (mail, folder) = (arrived(&sender).await, sender.folder.path());
    let program = "import json, parsedmarc, sys\n\
                   print(json.dumps(parsedmarc.parse_report_file(sys.argv[1], offline=True), default=str))";
    let read: serde_json::Value = serde_json::from_str(&python(folder, &mail, program)).unwrap();
    assert_eq!(read["report_type"], "smtp_tls");
    let report = &read["report"];
    let day = day().date();
    for (member, value) in [
        ("organization_name", "Example Ltd".to_owned()),
        ("contact_info", "tls@sender.example.test".to_owned()),
        ("begin_date", format!("{day}T00:00:00Z")),
        ("end_date", format!("{day}T23:59:59Z")),
    ] {
        assert_eq!(report[member], value, "{member}");
    }
    let policy = &report["policies"][0];
    assert_eq!((&policy["policy_type"], &policy["policy_domain"]), (&"tlsa".into(), &"mx1.example.test".into()));
    assert_eq!((&policy["successful_session_count"], &policy["failed_session_count"]), (&0.into(), &1.into()));
    let failure = &policy["failure_details"][0];
    assert_eq!(failure["result_type"], "certificate-not-trusted");
    assert_eq!(failure["receiving_mx_hostname"], "mx1.example.test");
    assert_eq!(failure["failed_session_count"], 1);
    if crate::lab::long() {
        assert_eq!(by_stalwart(folder, &mail), sent(&mail));
    }
}

/// The report as `tests/real/report-reader` reads it.
fn by_stalwart(folder: &Path, mail: &[u8]) -> serde_json::Value {
    let mail_file = folder.join("mail.eml");
    std::fs::write(&mail_file, mail).unwrap();
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients/report-reader/debug/report-reader");
    let run = Command::new(reader).arg(mail_file).output().expect("tests/real/prepare builds it");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let mut read = serde_json::from_slice(&run.stdout).unwrap();
    leave_out_absent(&mut read);
    read
}

/// Stalwart's library writes members that a report has not as null, or as an empty list.
fn leave_out_absent(value: &mut serde_json::Value) {
    let is_absent = |value: &serde_json::Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    match value {
        serde_json::Value::Object(members) => {
            members.retain(|_, member| !is_absent(member));
            members.values_mut().for_each(leave_out_absent);
        }
        serde_json::Value::Array(elements) => elements.iter_mut().for_each(leave_out_absent),
        _ => {}
    }
}

/// The JSON of the report in a mail.
fn sent(mail: &[u8]) -> serde_json::Value {
    let mut unpacked = danelaw::tlsrpt::read::unpack::unpack(mail, None).unwrap();
    serde_json::from_slice(&unpacked.next().unwrap().unwrap().json).unwrap()
}
