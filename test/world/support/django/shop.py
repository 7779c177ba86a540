"""The site's addresses, the claims of its users, and what its operator does in Django's admin, as calls for the tests."""

import hmac
import json
from os import environ

from django.contrib.auth.models import Group, User
from django.contrib.auth.views import LoginView, LogoutView
from django.contrib.sessions.models import Session
from django.http import HttpResponseForbidden, JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import TemplateView
from oauth2_provider.generators import generate_client_id, generate_client_secret
from oauth2_provider.models import Application, RefreshToken
from oauth2_provider.oauth2_validators import OAuth2Validator


class ShopValidator(OAuth2Validator):
    oidc_claim_scope = OAuth2Validator.oidc_claim_scope | {"roles": "profile"}

    def get_additional_claims(self):
        return {
            "preferred_username": lambda request: request.user.get_username(),
            "name": lambda request: request.user.get_full_name(),
            "email": lambda request: request.user.email,
            "roles": lambda request: [group.name for group in request.user.groups.all()],
        }


def add_user(username, password, name, email, roles):
    first, last = name.split(" ")
    user = User.objects.create_user(username, email, password, first_name=first, last_name=last)
    set_roles(username, roles)
    return {"sub": str(user.pk)}


def set_roles(username, roles):
    groups = [Group.objects.get_or_create(name=role)[0] for role in roles]
    User.objects.get(username=username).groups.set(groups)


def add_application(name, grant, redirect_uris="", post_logout_redirect_uris=""):
    secret = generate_client_secret()
    application = Application.objects.create(
        name=name,
        client_id=generate_client_id(),
        client_secret=secret,
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=grant,
        redirect_uris=redirect_uris,
        post_logout_redirect_uris=post_logout_redirect_uris,
        algorithm=Application.RS256_ALGORITHM,
        skip_authorization=True,
    )
    return {"client_id": application.client_id, "client_secret": secret}


def end_sessions(username):
    user = User.objects.get(username=username)
    for session in Session.objects.all():
        if session.get_decoded().get("_auth_user_id") == str(user.pk):
            session.delete()
    for token in RefreshToken.objects.filter(user=user, revoked__isnull=True):
        token.revoke()


OPERATIONS = {each.__name__: each for each in [add_user, set_roles, add_application, end_sessions]}


@csrf_exempt
def operate(request, operation):
    if not hmac.compare_digest(request.headers.get("x-operator-key", ""), environ["SHOP_OPERATOR_KEY"]):
        return HttpResponseForbidden()
    return JsonResponse(OPERATIONS[operation](**json.loads(request.body)) or {})


urlpatterns = [
    path("", TemplateView.as_view(template_name="home.html")),
    path("accounts/login/", LoginView.as_view()),
    path("accounts/logout/", LogoutView.as_view()),
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("operator/<str:operation>", operate),
]
