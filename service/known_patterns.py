"""Patterns and formats that common libraries generate, and the patterns that replace them."""

DOMAIN = "([A-Za-z0-9]([A-Za-z0-9-]{0,20}[A-Za-z0-9])?[.])+[A-Za-z]{2,10}"
EMAIL = f"^[A-Za-z0-9_+-]{{1,30}}([.][A-Za-z0-9_+-]{{1,30}}){{0,3}}@{DOMAIN}$"
DECIMAL = r"^[+-]?\d+(\.\d+)?$"
DURATION = r"^P(\d+W|\d+D|(\d+Y)(\d+M)?(\d+D)?|(\d+M)(\d+D)?|T(\d+H(\d+M)?(\d+S)?|\d+M(\d+S)?|\d+S))$"
# With look-ahead, which a grammar can't express. A text that matches the replacement matches the original too.
KNOWN = {
    # zod 4: z.email(), z.iso.duration(); zod 3: z.string().email()
    r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$": EMAIL,
    r"^(?!\.)(?!.*\.\.)([A-Z0-9_'+\-\.]*)[A-Z0-9_+-]@([A-Z0-9][A-Z0-9\-]*\.)+[A-Z]{2,}$": EMAIL.replace("a-z", ""),
    r"^P(?:(\d+W)|(?!.*W)(?=\d|T\d)(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+([.,]\d+)?S)?)?)$": DURATION,
    # pydantic: Decimal
    r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$": DECIMAL,
}
FORMATS = {
    "email": EMAIL,
    "hostname": f"^{DOMAIN}$",
    "ipv4": r"^((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)$",
    "duration": DURATION,
}
