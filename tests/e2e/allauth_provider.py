"""django-allauth (PyPI) as the identity provider: OpenID discovery alone, dynamic registration of the scopes that a
client names, its own pages for login and consent with CSRF tokens, RS256 JWT access tokens whose audience is a list.

    allauth_provider.py PORT FOLDER

It is set up as its documentation has it, and not otherwise: open registration and JWTs are off by default, and its rate
limits would stop a suite that registers many clients from one address.
"""

import pathlib
import sys

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django import setup
from django.conf import settings
from django.core.management import call_command
from django.urls import include, path

PORT, FOLDER = int(sys.argv[1]), pathlib.Path(sys.argv[2])
KEY = rsa.generate_private_key(65537, 2048).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
CONTEXT = ["django.template.context_processors.request", "django.contrib.auth.context_processors.auth"]

settings.configure(
    SECRET_KEY="only for this run",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER / "allauth.db"}},
    INSTALLED_APPS=[
        "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "django.contrib.messages",
        "allauth", "allauth.account", "allauth.idp.oidc",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "allauth.account.middleware.AccountMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
            "OPTIONS": {"context_processors": [*CONTEXT, "django.contrib.messages.context_processors.messages"]},
        }
    ],
    AUTHENTICATION_BACKENDS=["allauth.account.auth_backends.AuthenticationBackend"],
    ACCOUNT_EMAIL_VERIFICATION="none",
    ACCOUNT_RATE_LIMITS=False,
    IDP_OIDC_PRIVATE_KEY=KEY.decode(),
    IDP_OIDC_ACCESS_TOKEN_FORMAT="jwt",
    IDP_OIDC_DCR_ENABLED=True,
    IDP_OIDC_DCR_REQUIRES_INITIAL_ACCESS_TOKEN=False,
    IDP_OIDC_RATE_LIMITS=False,
)
setup()
urlpatterns = [path("", include("allauth.idp.urls")), path("accounts/", include("allauth.urls"))]

if __name__ == "__main__":
    from django.contrib.auth import get_user_model

    call_command("migrate", verbosity=0)
    get_user_model().objects.create_user("alice", password="secret")
    call_command("runserver", f"127.0.0.1:{PORT}", use_reloader=False, skip_checks=True)
