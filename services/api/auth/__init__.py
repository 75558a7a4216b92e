"""Who may call: one guard before every view, and one module a kind of credential."""

from services.api.auth.admin_key import AdminKey, load_admin_key
from services.api.auth.guard import OPEN_ENDPOINTS, Authenticator, Principal, register_guard

__all__ = ["OPEN_ENDPOINTS", "AdminKey", "Authenticator", "Principal", "load_admin_key", "register_guard"]
