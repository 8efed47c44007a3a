//! Times as RFC 3339.
