//! The xenstore protocol: wire format, client and server.
