"""Settings of a project that has its secrets as files, read once, at the start."""

import os
from pathlib import Path


def secret(name):
    """Returns what is in the file that the variable <name>_FILE names."""
    return Path(os.environ[f"{name}_FILE"]).read_text().strip()


# One key a line, the newest first: it signs, and what the others have signed is still good.
SECRET_KEY, *SECRET_KEY_FALLBACKS = secret("SIGNING_KEYS").split()

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "db",
        "NAME": "app",
        "USER": secret("DATABASE_USER"),
        "PASSWORD": secret("DATABASE_PASSWORD"),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }
}

ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "*").split(",")
ROOT_URLCONF = "urls"
MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware"]
# The whole session is in the cookie, signed with the key: nothing else makes it valid.
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
USE_TZ = True
