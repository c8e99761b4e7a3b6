//! Prints the TLS report in a mail as JSON, as Stalwart's library reads it.

use mail_auth::report::tlsrpt::TlsReport;

fn main() {
    let file = std::env::args_os().nth(1).expect("an argument names the mail");
    let mail = std::fs::read(file).expect("the mail can be read");
    let report = TlsReport::parse_rfc5322(&mail).expect("the mail has a TLS report");
    println!("{}", report.to_json());
}
