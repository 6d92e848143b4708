//! Messages of Amazon SNS: notifications of S3 inside a text, as SQS and HTTPS endpoints get them without raw delivery.
//!
//! Source: Amazon SNS Developer Guide, "Parsing message formats". Signatures are not checked: what a message says is a hint,
//! and the object store is asked.

use serde_json::Value;

use super::fields::{Parsed, of_json, required};
use super::{ParseError, parse_any};

/// Reads one message body: what it wraps is read as [`parse_any`] does.
///
/// A message that asks to confirm a subscription is [`ParseError::Unrelated`]: the host confirms it.
pub fn parse(body: &[u8]) -> Parsed {
    of_json(body, message)
}

/// Whether it is a message of SNS.
pub(super) fn is_wrapped(value: &Value) -> bool {
    value.pointer("/Type").is_some_and(Value::is_string) && value.pointer("/TopicArn").is_some_and(Value::is_string)
}

pub(super) fn message(value: &Value) -> Parsed {
    let wrapped = match required(value, "/Type", "Type") {
        Ok("Notification") => required(value, "/Message", "Message"),
        Ok(other) => Err(ParseError::Unrelated {
            what: format!("SNS message of type {other}"),
        }),
        Err(error) => Err(error),
    };
    match wrapped {
        // What is wrapped twice is wrapped by a mistake.
        Ok(text) if serde_json::from_str(text).is_ok_and(|inner| is_wrapped(&inner)) => {
            vec![Err(ParseError::Unrelated {
                what: "SNS message in an SNS message".to_owned(),
            })]
        }
        Ok(text) => parse_any(text.as_bytes()),
        Err(error) => vec![Err(error)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ObjectEvent;

    fn wrapped(message: &str) -> String {
        let message = serde_json::Value::from(message);
        format!(
            r#"{{"Type":"Notification","MessageId":"m","TopicArn":"arn:aws:sns:us-west-2:1:t","Message":{message},
            "Signature":"s"}}"#
        )
    }

    #[test]
    fn what_is_wrapped_is_read() {
        let records = r#"{"Records":[{"eventName":"ObjectCreated:Put","s3":{"object":{"key":"a+b"}}}]}"#;
        assert_eq!(parse(wrapped(records).as_bytes()), [Ok(ObjectEvent::created("a b"))]);
        assert_eq!(
            super::super::s3::parse(wrapped(records).as_bytes()),
            [Ok(ObjectEvent::created("a b"))]
        );
        assert_eq!(parse(wrapped(r#"{"Event":"s3:TestEvent"}"#).as_bytes()), []);
    }

    #[test]
    fn what_is_no_notification_is_named() {
        let confirmation = br#"{"Type":"SubscriptionConfirmation","TopicArn":"arn","SubscribeURL":"https://sns"}"#;
        assert_eq!(
            parse(confirmation)[0].as_ref().unwrap_err().to_string(),
            "not a notification about an object: SNS message of type SubscriptionConfirmation"
        );
        let twice = wrapped(&wrapped("{}"));
        assert!(matches!(
            parse(twice.as_bytes())[..],
            [Err(ParseError::Unrelated { .. })]
        ));
    }
}
