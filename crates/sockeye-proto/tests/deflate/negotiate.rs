//! Offers and answers, by section of RFC 7692 and RFC 6455.

use super::{bits, offer, parameters};
use http::{HeaderMap, HeaderValue, header::SEC_WEBSOCKET_EXTENSIONS};
use sockeye_proto::{
    Role,
    deflate::{
        AnswerError, ClientWindow, Offer, ParameterError as P, Parameters, Policy, WindowBits,
        check, offers,
    },
};

const SERVER_NO: &str = "server_no_context_takeover";
const CLIENT_NO: &str = "client_no_context_takeover";
const SERVER_MAX: &str = "server_max_window_bits";
const CLIENT_MAX: &str = "client_max_window_bits";

fn headers(values: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(SEC_WEBSOCKET_EXTENSIONS, value.parse().expect("a header value"));
    }
    headers
}

fn wrong(name: &'static str, value: &str) -> P {
    P::Value { name, value: value.to_owned() }
}

#[test]
fn an_offer_has_up_to_four_parameters_in_any_order_and_is_printed_as_it_is_read() {
    for (element, expected) in [
        ("permessage-deflate", Offer::default()),
        (
            "permessage-deflate; server_no_context_takeover",
            Offer { server_no_context_takeover: true, ..Offer::default() },
        ),
        (
            "permessage-deflate; client_no_context_takeover",
            Offer { client_no_context_takeover: true, ..Offer::default() },
        ),
        (
            "permessage-deflate; server_max_window_bits=10",
            Offer { server_max_window_bits: Some(bits(10)), ..Offer::default() },
        ),
        ("permessage-deflate; client_max_window_bits", Offer::browser()),
        (
            "permessage-deflate; client_max_window_bits=8",
            Offer {
                client_max_window_bits: ClientWindow::AtMost(WindowBits::MIN),
                ..Offer::default()
            },
        ),
        (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
             server_max_window_bits=8; client_max_window_bits=15",
            Offer {
                server_no_context_takeover: true,
                client_no_context_takeover: true,
                server_max_window_bits: Some(WindowBits::MIN),
                client_max_window_bits: ClientWindow::AtMost(WindowBits::MAX),
            },
        ),
    ] {
        assert_eq!(element.parse(), Ok(expected), "{element}");
        assert_eq!(expected.to_string(), element);
    }
    let other_order = "permessage-deflate; client_max_window_bits; server_no_context_takeover";
    assert_eq!(
        other_order.parse(),
        Ok(Offer { server_no_context_takeover: true, ..Offer::browser() })
    );
}

/// RFC 6455 section 9.1, and white space as in RFC 9110 section 5.6.3.
#[test]
fn white_space_and_quotes_are_taken_where_the_grammar_has_them() {
    let expected = Offer { server_max_window_bits: Some(bits(10)), ..Offer::browser() };
    for element in [
        "permessage-deflate;server_max_window_bits=10;client_max_window_bits",
        "permessage-deflate ;\tserver_max_window_bits = 10 ; client_max_window_bits ",
        "permessage-deflate; server_max_window_bits=\"10\"; client_max_window_bits",
        "permessage-deflate; server_max_window_bits= \"\\1\\0\" ; client_max_window_bits",
    ] {
        assert_eq!(element.parse(), Ok(expected), "{element}");
    }
    for element in [
        "",
        ";",
        "permessage-deflate;",
        "permessage-deflate; ; client_max_window_bits",
        "permessage deflate",
        "permessage-deflate; client_max_window_bits=",
        "permessage-deflate; =10",
        "permessage-deflate; server_max_window_bits=\"\"",
        "permessage-deflate; server_max_window_bits=\"10",
        "permessage-deflate; server_max_window_bits=\"10\\",
        "permessage-deflate; server_max_window_bits=\"10\\\"",
        "permessage-deflate; server_max_window_bits=\"10\"0",
        "permessage-deflate; server_max_window_bits=\"1 0\"",
        "permessage-deflate; server_max_window_bits=1 0",
        "permessage-deflate; server_max_window_bits=10=10",
        "permessage-deflate; \"server_no_context_takeover\"",
        "permessage-deflate client_max_window_bits",
    ] {
        let parsed = element.parse::<Offer>();
        assert_eq!(parsed, Err(P::Malformed(element.to_owned())), "{element}");
        assert!(element.parse::<Parameters>().is_err(), "{element}");
    }
}

/// Section 7: a parameter that is "not defined for use", "an invalid value", and "multiple extension
/// parameters with the same name" decline an offer and fail an answer.
#[test]
fn a_wrong_parameter_is_wrong_in_an_offer_and_in_an_answer_and_is_named() {
    let mut cases = vec![
        ("x".to_owned(), P::Unknown("x".into())),
        ("window_bits=10".to_owned(), P::Unknown("window_bits".into())),
        // Names are compared as they are written.
        ("Server_No_Context_Takeover".to_owned(), P::Unknown("Server_No_Context_Takeover".into())),
        (SERVER_MAX.to_owned(), wrong(SERVER_MAX, "")),
    ];
    for name in [SERVER_NO, CLIENT_NO] {
        for value in ["1", "true", "10"] {
            cases.push((format!("{name}={value}"), wrong(name, value)));
        }
        cases.push((format!("{name}; {name}"), P::Duplicate(name)));
    }
    for name in [SERVER_MAX, CLIENT_MAX] {
        for value in [
            "0",
            "1",
            "7",
            "16",
            "08",
            "010",
            "+8",
            "-8",
            "8.0",
            "0x8",
            "1e1",
            "a",
            "eight",
            "255",
            "256",
            "264",
            "4294967304",
            "99999999999999999999999",
        ] {
            cases.push((format!("{name}={value}"), wrong(name, value)));
        }
        cases.push((format!("{name}=10; {name}=10"), P::Duplicate(name)));
        cases.push((format!("{name}=10; {name}=11"), P::Duplicate(name)));
    }
    for (parameter, error) in cases {
        let element = format!("permessage-deflate; {parameter}");
        assert_eq!(element.parse::<Offer>(), Err(error.clone()), "{element}");
        assert_eq!(element.parse::<Parameters>(), Err(error.clone()), "{element}");
        assert_eq!(check(&element, &[Offer::browser()]), Err(error.clone().into()), "{element}");
        let text = error.to_string();
        let name = parameter.split([';', '=']).next().expect("a first part");
        assert!(text.contains(name), "{text}");
        assert_eq!(offers(&headers(&[&element])).collect::<Vec<_>>(), [Err(error)]);
    }
    let twice = "permessage-deflate; client_max_window_bits; client_max_window_bits=8";
    assert_eq!(twice.parse::<Offer>(), Err(P::Duplicate(CLIENT_MAX)));
    // Only in an offer may the value be left out (section 7.1.2.2).
    let element = "permessage-deflate; client_max_window_bits";
    assert_eq!(element.parse::<Parameters>(), Err(wrong(CLIENT_MAX, "")));
}

#[test]
fn a_wrong_offer_is_passed_over_and_so_are_other_extensions_over_all_headers() {
    for values in [
        &["permessage-deflate; x, permessage-deflate; server_max_window_bits=9"][..],
        &["permessage-deflate; x", "permessage-deflate; server_max_window_bits=9"],
        &["x-webkit-deflate-frame, ,permessage-deflate;server_max_window_bits=9,"],
        &["x-other; a=\"1, permessage-deflate\", permessage-deflate; server_max_window_bits=9"],
        &["x-other; a=\"\\\", permessage-deflate\", permessage-deflate; server_max_window_bits=9"],
        &["PerMessage-Deflate, permessage-deflate; server_max_window_bits=9"],
        &["permessage-deflate; server_max_window_bits=9, permessage-deflate"],
        &["x; \"open, permessage-deflate", "permessage-deflate; server_max_window_bits=9"],
    ] {
        let good: Vec<_> = offers(&headers(values)).filter_map(Result::ok).collect();
        assert_eq!(good[0], offer("permessage-deflate; server_max_window_bits=9"), "{values:?}");
    }
    let mut none = headers(&["", " , ", "x-other"]);
    assert_eq!(offers(&none).count(), 0);
    let not_text = HeaderValue::from_bytes(b"permessage-deflate; \xe4").expect("obs-text");
    none.append(SEC_WEBSOCKET_EXTENSIONS, not_text);
    let no_text: Vec<_> = offers(&none).collect();
    assert!(matches!(no_text[..], [Err(P::Malformed(_))]), "{no_text:?}");
    let both = headers(&["permessage-deflate; client_max_window_bits, permessage-deflate"]);
    let in_order = vec![Ok(Offer::browser()), Ok(Offer::default())];
    assert_eq!(offers(&both).collect::<Vec<_>>(), in_order, "in the client's order");
}

#[test]
fn a_server_answers_every_offer_by_its_policy() {
    let dedicated = |n| Policy::Dedicated { window_bits: bits(n) };
    for (policy, offered, answered) in [
        (Policy::Shared, "", "; server_no_context_takeover; client_no_context_takeover"),
        (
            Policy::Shared,
            "; client_max_window_bits=9",
            "; server_no_context_takeover; client_no_context_takeover",
        ),
        // To be agreed to, it has to be in the answer, whatever else is (section 7.1.2.1).
        (
            Policy::Shared,
            "; server_max_window_bits=15",
            "; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15",
        ),
        (
            Policy::Shared,
            "; server_max_window_bits=8",
            "; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=8",
        ),
        (dedicated(15), "", ""),
        (dedicated(15), "; client_max_window_bits", ""),
        (dedicated(15), "; server_max_window_bits=15", "; server_max_window_bits=15"),
        (dedicated(15), "; server_no_context_takeover", "; server_no_context_takeover"),
        (dedicated(15), "; client_no_context_takeover", "; client_no_context_takeover"),
        (
            dedicated(12),
            "; client_max_window_bits",
            "; server_max_window_bits=12; client_max_window_bits=12",
        ),
        (
            dedicated(12),
            "; server_max_window_bits=10; client_max_window_bits=9",
            "; server_max_window_bits=10; client_max_window_bits=9",
        ),
        (
            dedicated(12),
            "; server_max_window_bits=14; client_max_window_bits=14",
            "; server_max_window_bits=12; client_max_window_bits=12",
        ),
        // This client's window cannot be bounded, so there is to be none.
        (dedicated(12), "", "; client_no_context_takeover; server_max_window_bits=12"),
        // Where nothing is taken over nothing is held, so there is nothing to bound.
        (
            dedicated(12),
            "; client_no_context_takeover; client_max_window_bits",
            "; client_no_context_takeover; server_max_window_bits=12",
        ),
        (
            dedicated(12),
            "; server_no_context_takeover; server_max_window_bits=14; client_max_window_bits",
            "; server_no_context_takeover; server_max_window_bits=14; client_max_window_bits=12",
        ),
    ] {
        let offered = offer(&format!("permessage-deflate{offered}"));
        let answer = policy.answer(&offered);
        assert_eq!(answer.to_string(), format!("permessage-deflate{answered}"), "{offered}");
        assert_eq!(answer.header_value(), answer.to_string());
        assert!(check(&answer.to_string(), &[offered]).is_ok(), "{offered}: {answer}");
    }
}

/// Sections 7.1.1.1 to 7.1.2.2, each parameter from the client's side.
#[test]
fn a_client_takes_what_the_rfc_lets_a_server_answer_and_names_what_it_does_not() {
    let too_large =
        |answered, offered| Err(AnswerError::TooLarge { name: SERVER_MAX, answered, offered });
    let good = |element: &str| Ok(format!("permessage-deflate{element}"));
    for (offered, answered, expected) in [
        ("", "", good("")),
        // Unasked, but the server's to say.
        ("", "; server_no_context_takeover", good("; server_no_context_takeover")),
        ("", "; client_no_context_takeover", good("; client_no_context_takeover")),
        ("", "; server_max_window_bits=9", good("; server_max_window_bits=9")),
        // Not the server's to say.
        ("", "; client_max_window_bits=9", Err(AnswerError::NotOffered(CLIENT_MAX))),
        (
            "; client_max_window_bits",
            "; client_max_window_bits=9",
            good("; client_max_window_bits=9"),
        ),
        ("; client_max_window_bits", "", good("")),
        // The client's own hints hold in any case.
        ("; client_max_window_bits=10", "", good("; client_max_window_bits=10")),
        (
            "; client_max_window_bits=10",
            "; client_max_window_bits=12",
            good("; client_max_window_bits=10"),
        ),
        (
            "; client_max_window_bits=10",
            "; client_max_window_bits=8",
            good("; client_max_window_bits=8"),
        ),
        ("; client_no_context_takeover", "", good("; client_no_context_takeover")),
        // What was demanded has to be agreed to.
        (
            "; server_no_context_takeover",
            "; server_no_context_takeover",
            good("; server_no_context_takeover"),
        ),
        ("; server_no_context_takeover", "", Err(AnswerError::Missing(SERVER_NO))),
        (
            "; server_max_window_bits=10",
            "; server_max_window_bits=10",
            good("; server_max_window_bits=10"),
        ),
        (
            "; server_max_window_bits=10",
            "; server_max_window_bits=8",
            good("; server_max_window_bits=8"),
        ),
        ("; server_max_window_bits=10", "; server_max_window_bits=11", too_large(11, 10)),
        ("; server_max_window_bits=10", "", Err(AnswerError::Missing(SERVER_MAX))),
        ("; server_max_window_bits=15", "", Err(AnswerError::Missing(SERVER_MAX))),
    ] {
        let offered = offer(&format!("permessage-deflate{offered}"));
        let answered = format!("permessage-deflate{answered}");
        let got = check(&answered, &[offered]).map(|parameters| parameters.to_string());
        assert_eq!(got, expected, "{offered} and {answered}");
    }
    assert!(too_large(11, 10).expect_err("an error").to_string().contains(SERVER_MAX));
}

#[test]
fn an_answer_may_be_to_any_of_the_offers() {
    let [first, second] = [
        offer("permessage-deflate; server_max_window_bits=10"),
        offer("permessage-deflate; client_max_window_bits=9"),
    ];
    let answer = "permessage-deflate; server_max_window_bits=9";
    let to_the_first = check(answer, &[first, second]);
    assert_eq!(to_the_first, Ok(parameters(answer)));
    let to_the_second =
        check("permessage-deflate", &[first, second]).expect("the second allows it");
    assert_eq!(to_the_second.client_max_window_bits, Some(bits(9)));
    let to_none = check("permessage-deflate; client_max_window_bits=9", &[first]);
    assert_eq!(to_none, Err(AnswerError::Missing(SERVER_MAX)), "what the first one says");
    assert!(check("permessage-deflate", &[]).is_err());
}

#[test]
fn each_role_sends_by_its_own_parameters_and_receives_by_the_others() {
    let agreed = parameters(
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=9; \
         client_max_window_bits=11",
    );
    let client = Role::Client { masking_key: || [0; 4] };
    for (context, bits, takes_over) in [
        (agreed.sending(&Role::Server), 9, false),
        (agreed.receiving(&client), 9, false),
        (agreed.sending(&client), 11, true),
        (agreed.receiving(&Role::Server), 11, true),
        (Parameters::default().sending(&Role::Server), 15, true),
        (Parameters::default().receiving(&Role::Server), 15, true),
    ] {
        assert_eq!((context.window_bits().bits(), context.takes_over()), (bits, takes_over));
        assert_eq!(context.held(), 0);
    }
}
