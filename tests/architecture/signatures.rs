//! The shape of function signatures: each parameter is a noun of its own.
//!
//! A tuple as one parameter hides a type that has no name yet, and a `bool` has no meaning for a reader of the call.

use super::sources;

/// More parameters than this hide a type that has no name yet.
const MAX_PARAMETERS: usize = 4;
/// Methods of other crates' traits have the parameters that those traits give them.
const OF_OTHER_CRATES: &[&str] = &["verify_server_cert"];

/// The signature of a function.
struct Signature {
    name: String,
    /// Its parameters without `self`, each as `pattern: type`.
    parameters: Vec<String>,
}

/// The signatures of all functions in `code`.
fn signatures(code: &str) -> Vec<Signature> {
    let starts = code.match_indices("fn ").filter(|(at, _)| code[..*at].ends_with([' ', '\n', '(']) || *at == 0);
    starts.filter_map(|(at, word)| signature(&code[at + word.len()..])).collect()
}

/// The signature that follows the word `fn`. None for a function type, which has no name.
fn signature(text: &str) -> Option<Signature> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if name.is_empty() {
        return None;
    }
    let (mut angles, mut others, mut last) = (0_i32, 0_i32, ' ');
    let (mut parameters, mut parameter) = (Vec::new(), String::new());
    for c in text[name.len()..].chars() {
        match c {
            '<' => angles += 1,
            // The arrow of a closure's type is no bracket.
            '>' if last != '-' => angles -= 1,
            '(' | '[' | '{' => others += 1,
            ')' | ']' | '}' => others -= 1,
            _ => {}
        }
        last = c;
        match (c, angles, others) {
            ('(', 0, 1) => parameter.clear(),
            (')', 0, 0) => break,
            (',', 0, 1) => parameters.push(std::mem::take(&mut parameter)),
            _ => parameter.push(c),
        }
    }
    parameters.push(parameter);
    let is_self = |parameter: &str| parameter.split(':').next().is_some_and(|name| name.trim().ends_with("self"));
    let parameters = parameters.into_iter().map(|parameter| parameter.trim().to_owned());
    let parameters = parameters.filter(|parameter| !parameter.is_empty() && !is_self(parameter)).collect();
    Some(Signature { name, parameters })
}

/// The type of a parameter. The last `: ` outside a path is the one behind the pattern.
fn type_of(parameter: &str) -> &str {
    parameter.split_once(": ").map_or("", |(_, r#type)| r#type.trim())
}

/// The signatures in the sources, each with its module.
fn all() -> impl Iterator<Item = (String, Signature)> {
    let of_module =
        |(module, code): (String, String)| signatures(&code).into_iter().map(move |one| (module.clone(), one));
    sources().into_iter().flat_map(of_module)
}

/// The parameters that `is_wrong` finds in the sources, each with its function.
fn found(is_wrong: impl Fn(&str) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for (module, Signature { name, parameters }) in all() {
        let these = parameters.iter().filter(|parameter| is_wrong(parameter));
        wrong.extend(these.map(|parameter| format!("src/{module}.rs: {name}({parameter})")));
    }
    wrong
}

#[test]
fn no_parameter_is_a_tuple() {
    let is_tuple = |parameter: &str| {
        let r#type = type_of(parameter).trim_start_matches(['&', ' ']).trim_start_matches("mut ");
        let is_one_type = ["()", "(impl ", "(dyn "].iter().any(|start| r#type.starts_with(start));
        let is_inside = r#type.contains("Option<(") && !r#type.contains("Option<()");
        (parameter.starts_with('(') || r#type.starts_with('(') || is_inside) && !is_one_type
    };
    assert_eq!(found(is_tuple), Vec::<String>::new());
}

#[test]
fn no_parameter_is_a_bool() {
    let is_bool = |parameter: &str| type_of(parameter) == "bool" || type_of(parameter).starts_with("[bool; ");
    assert_eq!(found(is_bool), Vec::<String>::new());
}

#[test]
fn a_function_has_few_parameters() {
    let ours = all().filter(|(_, signature)| !OF_OTHER_CRATES.contains(&signature.name.as_str()));
    let many = ours.filter(|(_, signature)| signature.parameters.len() > MAX_PARAMETERS);
    let wrong = many.map(|(module, signature)| format!("src/{module}.rs: {}", signature.name));
    assert_eq!(wrong.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn signatures_are_read() {
    let code =
        "pub fn a<F: Fn(u8) -> u8>(&mut self, f: F, (x, y): (u8, u8), z: bool,) -> (u8, u8) {\nfn b() {\n fn(u8)";
    let read: Vec<_> = signatures(code).into_iter().map(|found| (found.name, found.parameters)).collect();
    let a = ["f: F", "(x, y): (u8, u8)", "z: bool"].map(str::to_owned).to_vec();
    assert_eq!(read, [("a".to_owned(), a), ("b".to_owned(), Vec::new())]);
}
