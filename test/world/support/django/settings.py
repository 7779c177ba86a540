"""A Django site whose users log in at other applications too, set up as django-oauth-toolkit's documentation says."""

import json
from os import environ

SECRET_KEY = environ["SHOP_SECRET_KEY"]
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "shop"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "oauth2_provider",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
PAGES = {
    "home.html": '<form method="post" action="/accounts/logout/">{% csrf_token %}<button>Log out</button></form>',
    "registration/login.html": '<form method="post">{% csrf_token %}{{ form }}<button>Log in</button></form>',
}
LOGOUT_REDIRECT_URL = "/"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "loaders": [
                ("django.template.loaders.locmem.Loader", PAGES),
                "django.template.loaders.app_directories.Loader",
            ],
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": environ["SHOP_DATABASE"],
        "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# As Django advises for tests: the default makes a second of work of each password and each client secret.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
OAUTH2_PROVIDER = {
    "OIDC_ENABLED": True,
    "OIDC_RSA_PRIVATE_KEY": environ["SHOP_SIGNING_KEY"],
    "OIDC_RSA_PRIVATE_KEYS_INACTIVE": json.loads(environ["SHOP_OLD_SIGNING_KEYS"]),
    "OAUTH2_VALIDATOR_CLASS": "shop.ShopValidator",
    "SCOPES": {name: name for name in ["openid", "profile", "email", "offline_access", "jobs"]},
    "ACCESS_TOKEN_EXPIRE_SECONDS": int(environ["SHOP_ACCESS_TOKEN_SECONDS"]),
    "ROTATE_REFRESH_TOKEN": True,
    "REFRESH_TOKEN_REUSE_PROTECTION": True,
    # For a client that never saw the answer: the token before the last one may be sent again for so long.
    "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": 120,
    "OIDC_RP_INITIATED_LOGOUT_ENABLED": True,
}
